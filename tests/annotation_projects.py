"""Small projects of annotation tools, each after the tool's own documentation of its form."""

import json

ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/day%201/walk_1.mp4" MIME_TYPE="video/mp4"/>
    <PROPERTY NAME="lastUsedAnnotationId">4</PROPERTY>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1250"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="4001"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="5000"/>
    <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="7333"/>
  </TIME_ORDER>
  <TIER TIER_ID="behaviour" LINGUISTIC_TYPE_REF="default-lt">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
      <ANNOTATION_VALUE>Bügeln &amp; mehr</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="notes" LINGUISTIC_TYPE_REF="ref" PARENT_REF="behaviour">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>fast</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""
ELAN_ACTIONS = {"walk_1": [(1.25, 4.001, "run"), (5, 7.333, "Bügeln & mehr")]}

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 8.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "behaviour"
        xmin = 0
        xmax = 8.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 1.25
            text = ""
        intervals [2]:
            xmin = 1.25
            xmax = 4.001
            text = "run ""fast"" away"
        intervals [3]:
            xmin = 4.001
            xmax = 5
            text = "jump"
        intervals [4]:
            xmin = 5
            xmax = 8.5
            text = " "
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 8.5
        points: size = 1
        points [1]:
            number = 2.5
            mark = "ring"
"""
TEXTGRID_SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
8.5
<exists>
2
"IntervalTier"
"behaviour"
0
8.5
4
0
1.25
""
1.25
4.001
"run ""fast"" away"
4.001
5
"jump"
5
8.5
""
"TextTier"
"bell"
0
8.5
1
2.5
"ring"
"""
TEXTGRID_ACTIONS = [(1.25, 4.001, 'run "fast" away'), (4.001, 5, "jump")]

AUDACITY = (
    "1.250000\t4.001000\trun\n\\\t120.000000\t400.000000\n5.000000\t5.000000\tbell\n6.5\t7\ta\n"
)


def boris_project():
    """Two films one after the other in one observation, an offset, a live observation."""
    behaviours = [("rear", "State event"), ("sniff", "Point event"), ("rest", "State event")]
    return {
        "time_format": "hh:mm:ss", "project_name": "rats", "project_date": "2024-05-01T10:00:00",
        "project_format_version": "7.0", "project_description": "", "subjects_conf": {},
        "behaviors_conf": {
            str(i): {"type": kind, "key": code[0], "code": code, "modifiers": ""}
            for i, (code, kind) in enumerate(behaviours)
        },
        "observations": {
            "obs1": {
                "file": {"1": ["films/rat_a.mp4", "films/rat_b.mp4"], "2": ["side/rat.mp4"]},
                "type": "MEDIA", "date": "2024-05-01T10:00:00", "description": "",
                "time offset": 10.0,
                "events": [
                    [15.355, "", "rear", "", ""], [19.626, "", "rear", "", ""],
                    [22.4, "", "sniff", "", ""],
                    [140.0, "left", "rest", "long", ""], [141.0, "right", "rest", "", ""],
                    [150.5, "left", "rest", "long", ""], [152.0, "right", "rest", "", ""],
                    [155.0, "", "rear", "", ""],
                ],
                "media_info": {
                    "length": {"films/rat_a.mp4": 120.0, "films/rat_b.mp4": 60.0},
                    "fps": {}, "offset": {"1": 0.0},
                },
            },
            "live 2": {
                "file": {}, "type": "LIVE", "date": "2024-05-01T12:00:00", "description": "",
                "time offset": 0.0, "events": [[1, "", "rest", "", ""], [2.5, "", "rest", "", ""]],
            },
        },
        "behavioral_categories": [], "independent_variables": {}, "coding_map": {},
    }  # fmt: skip


BORIS_ACTIONS = {
    "rat_a": [(5.355, 9.626, "rear")],
    "rat_b": [(10.0, 20.5, "rest"), (11.0, 22.0, "rest")],
    "live 2": [(1, 2.5, "rest")],
}

BORIS_AGGREGATED = """\
Observation id,Observation date,Description,Observation type,Source,Time offset (s),\
Coding duration,Media duration (s),FPS (frame/s),Subject,Behavior,Behavioral category,Modifier #1,\
Behavior type,Start (s),Stop (s),Duration (s),Media file name,Comment start,Comment stop
obs1,2024-05-01 10:00:00,,Media file,player #1:films/rat_a.mp4;films/rat_b.mp4,10,180.000,\
120.000;60.000,30.000;30.000,No focal subject,rear,Not defined,,STATE,15.355,19.626,4.271,\
films/rat_a.mp4,,
obs1,2024-05-01 10:00:00,,Media file,player #1:films/rat_a.mp4;films/rat_b.mp4,10,180.000,\
120.000;60.000,30.000;30.000,No focal subject,sniff,Not defined,,POINT,22.400,22.400,NA,\
films/rat_a.mp4,,
obs1,2024-05-01 10:00:00,,Media file,player #1:films/rat_a.mp4;films/rat_b.mp4,10,180.000,\
120.000;60.000,30.000;30.000,No focal subject,rest,Not defined,long,STATE,140.000,150.500,10.500,\
films/rat_b.mp4,,
"""
BORIS_OLD_TABULAR = """\
Observation id,obs 1,,,,,,,
,,,,,,,,
Media file(s),,,,,,,,
Player #1,rat_a.mp4,,,,,,,
Observation date,2016-11-27 01:57:26,,,,,,,
Time offset (s),0.0,,,,,,,
,,,,,,,,
Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status
3.300,rat_a.mp4,359.960,25.0,one,rear,,,START
4.100,rat_a.mp4,359.960,25.0,two,rear,,,START
7.750,rat_a.mp4,359.960,25.0,one,rear,,,STOP
8.000,rat_a.mp4,359.960,25.0,one,sniff,,,POINT
9.500,rat_a.mp4,359.960,25.0,two,rear,,,STOP
"""

VIA_ATTRIBUTES = {
    "1": {
        "aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "type": 4, "desc": "",
        "options": {"default": "Default", "0": "run"}, "default_option_id": "",
    },
    "2": {"aname": "comment", "anchor_id": "FILE1_Z2_XY0", "type": 1, "desc": "", "options": {}},
    "3": {"aname": "object", "anchor_id": "FILE1_Z1_XY1", "type": 3, "desc": "", "options": {}},
}  # fmt: skip
VIA_SEGMENTS = {
    "1_a": ("1", [1.25, 4.001], [], {"1": "0", "2": "fast"}),
    "1_b": ("1", [5, 7.333], [], {"1": "jump"}),
    "2_a": ("2", [2.5], [], {"1": "bell"}),
    "2_b": ("2", [3.5], [2, 10, 20, 50, 80], {"3": "ball"}),
}
VIA_ACTIONS = {"walk_1": [(1.25, 4.001, "run"), (5, 7.333, "jump")], "walk_2": []}


def via_project():
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "walks", "vid_list": ["1", "2"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": ""}}, "ui": {}},
        "attribute": VIA_ATTRIBUTES,
        "file": {
            str(i): {"fid": str(i), "fname": f"walk_{i}.mp4", "type": 4, "loc": 1, "src": ""}
            for i in (1, 2)
        },
        "metadata": {
            key: {"vid": vid, "flg": 0, "z": z, "xy": xy, "av": av}
            for key, (vid, z, xy, av) in VIA_SEGMENTS.items()
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    }


def via_csv():
    def quoted(value):
        return '"' + json.dumps(value).replace('"', '""') + '"'

    head = [
        "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
        '# SHAPE_ID = {"POINT":1,"RECTANGLE":2}',
        f"# ATTRIBUTE = {json.dumps(VIA_ATTRIBUTES)}",
        "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,..._coordinates,metadata",
    ]
    rows = [
        f'"{key}",{quoted([f"walk_{vid}.mp4"])},0,{quoted(z)},{quoted(xy)},{quoted(av)}'
        for key, (vid, z, xy, av) in VIA_SEGMENTS.items()
    ]
    return "\n".join([*head, *rows, ""])


def label_studio_task(video, *regions, **more):
    return {
        "id": 7, "data": {"video": video}, **more,
        "annotations": [{"id": 1, "was_cancelled": False, "result": list(regions)}],
    }  # fmt: skip


def timeline(start, end, *labels):
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    names = {"from_name": "videoLabels", "to_name": "video", "type": "timelinelabels"}
    return {"id": "x", "origin": "manual", **names, "value": value}


def series(start, end, *labels, instant=False):
    value = {"start": start, "end": end, "instant": instant, "timeserieslabels": list(labels)}
    names = {"from_name": "label", "to_name": "ts", "type": "timeserieslabels"}
    return {"id": "y", **names, "value": value}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>3</id><name>walking</name><size>300</size><mode>interpolation</mode>
      <start_frame>0</start_frame><stop_frame>299</stop_frame><frame_filter></frame_filter>
      <labels><label><name>run</name></label><label><name>jump</name></label></labels>
      <source>walk_1.mp4</source>
    </task>
  </meta>
  <track id="0" label="run" source="manual">
    <box frame="25" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
    <box frame="26" keyframe="0" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
    <box frame="50" keyframe="1" outside="1" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
    <box frame="75" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
    <box frame="99" keyframe="0" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
  </track>
  <tag frame="10" label="jump"/><tag frame="11" label="jump"/><tag frame="20" label="jump"/>
</annotations>
"""
CVAT_ACTIONS = {  # at 25 frames a second
    "walk_1": [(1, 2, "run"), (3, 4, "run"), (0.4, 0.48, "jump"), (0.8, 0.84, "jump")]
}

EPIC = """\
narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,\
start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,,
P01_01_1,P01,P01_01,01:00:02.629,01:00:04.37,01:00:06.175,262,370,light on,turn-on,6,light,114,,
"""

VTT = """WEBVTT - walks

NOTE made by hand

1
00:01.250 --> 00:04.001 line:0
run &amp; <b>jump</b>

01:00:05.000 --> 01:00:07.333
walk
"""
SRT = "1\n00:00:01,250 --> 00:00:04,001\nrun\n\n2\n01:00:05,000 --> 01:00:07,333\nwalk\n"
