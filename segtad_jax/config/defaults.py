"""Every default with its reason, and the switches of config files.

A config file calls `default()`, changes what its data set needs and hands what stands behind the
colon, its switches, to `with_arguments`:

    def get_config(argument: str = "") -> ConfigDict:
        config = default()
        config.data.num_frames = 400
        return with_arguments(config, argument)

so that `--config configs/hacs.py:paper,runlocal` means the same for every file: `plain` is without
what we have added to the method, `paper` also takes the paper to the letter, `runlocal` needs no
data and half a minute, `ablation=NAME` is a row of the paper's Tables 3 to 8. Fields are set on
the command line as `--config.model.width=128`.

A field that is None is open: `segtad_jax.config.fit` chooses it to fit the data set. In a file
`placeholder(int)` or `placeholder(tuple)` opens a field, `--config.model.width=None` does so on the
command line. Only the fields of `config.stored.OPENABLE` can be open.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from segtad_jax.config.ablations import ABLATIONS

ENCODER_STRIDE = 8  # three Conv1D(k=3, s=2), section 3.2.2


def default() -> ConfigDict:
    """Returns the paper's values where it gives one, otherwise ours (docs/paper_notes.md).

    `--print_config` shows the comments here: those above a field, and those beside it.
    """
    config = ConfigDict()
    config.seed = 0  # of parameters, windows and samples

    data = config.data = ConfigDict()
    data.source = "prepared"  # 'prepared' TFRecord shards, or embedded: 'watch', 'synthetic'
    data.dir = ""  # DATA or DATA/NAME/VERSION; for embedded sources where it is written, DATA
    data.num_frames = 1000  # T, of a window; 1000 for ActivityNet, 400 for HACS (section 4.1)
    # What the data must have; None: whatever they have. --mode=compile reads no data, needs both.
    data.num_channels = placeholder(int)  # C of the features
    data.num_classes = placeholder(int)  # D, without the background
    data.train_split = "training"
    data.eval_split = "validation"
    # Training recordings kept aside to choose on: ids or patterns, 's06_*,s07_*'. Their mAP is in
    # metrics.jsonl; the results at the end are still of eval_split.
    data.holdout = ""
    # Synthetic recordings: what tests and `:runlocal` use.
    data.synthetic_recordings = 48  # training recordings; a quarter as many validate
    data.synthetic_frames = 64  # frames of a recording
    data.synthetic_channels = 16
    data.synthetic_classes = 3
    data.synthetic_noise = 1.0  # standard deviation in every channel; a prototype has length 2
    data.synthetic_seed = 0

    model = config.model = ConfigDict()
    model.dtype = "float32"  # of convolutions; integrals, cosines, norms and losses stay float32
    model.normalise = False  # features to mean 0 and deviation 1 of the training recordings (ours)
    model.width = 256  # C', channels inside (ours)
    model.branches = ("graph", "atrous", "global")  # of PAG (Table 5)
    model.dilations = (1, 10, 20, 30)  # of the atrous branches (Table 6)
    model.global_convolution = True  # 1x1 convolution in PAG's global branch (ours; off in :paper)
    model.snippet_neighbours = 4  # K of the snippet graph (author)
    model.aggregate = "mean"  # of both graphs: 'sum' is Eq. 1 to the letter, 'mean' and 'max' ours
    model.decoder_stride = 1  # frames per decoded node: 1 (paper) or 4 (probably the author's code)
    model.input_highway = False  # the decoder also sees a 1x1 projection of the input (ours)
    model.stride = 8  # eta, the grid of proposals in frames (Eq. 8)
    model.pyramid = 0  # cells that longer proposals have more of, on coarser grids (ours); 0: Eq. 8
    model.num_bins = 32  # R of SGAlign (G-TAD)
    model.context = 0.5  # SGAlign looks this part of a proposal's length beyond each end (G-TAD)
    model.interpolation = "constant"  # features between frames: 'constant' (ours), 'linear' (G-TAD)
    model.proposal_neighbours = 4  # K of the proposal graph (section 3.3)
    model.proposal_layers = 3  # edge convolutions of PDN (section 3.3)
    model.proposal_graph = True  # off: PDN's layers see each proposal alone (Table 7)
    model.classifier = False  # a 1D-SSN of its own names the classes, for Tables 3 and 4 (ours)
    model.similarity = "tiou"  # edges between proposals: 'tiou' or 'center' (Table 8)

    sampling = config.sampling = ConfigDict()
    sampling.seeds = 50  # M0, half of them positive (section 3.3)
    # Second hops of a seed: 'own', each neighbour's nearest, which repeat one another (ours), or
    # 'remaining', the nearest that the seed has not drawn yet (section 3.3).
    sampling.second_hop = "own"
    sampling.edges = "tree"  # neighbours within a seed's sample (ours), 'list': within all samples

    loss = config.loss = ConfigDict()
    loss.segmentation = 1.0  # of L_seg in Eq. 11; 0 leaves it out (Table 3)
    loss.segmentation_classes = True  # off: L_seg only asks whether a frame is action (Table 4)
    loss.detection = 1.0  # lambda_1 of Eq. 11
    loss.boundary = 1.0  # lambda_2 of Eq. 11
    loss.l2 = 1e-4  # lambda_3 of Eq. 11, as coupled L2 on kernels (author)
    loss.positive_tiou = 0.5  # tau: a proposal of a larger tIoU is positive (section 3.3)
    loss.boundary_radius = 1  # frames around a start or end that count as one (ours; 0 in :paper)
    loss.balance_boundaries = True  # positives and negatives weigh the same in Eq. 5 (author)
    loss.snap = 0  # frames by which boundaries move before PDN's targets see them (ours)
    loss.balance_proposals = True  # likewise in the classification loss of Eq. 10 (author)

    augment = config.augment = ConfigDict()  # of training windows (ours)
    augment.noise = 0.0  # standard deviation of what is added to every value
    augment.mirror = ()  # channels that change sign, together, in half of the windows
    augment.rotate = ()  # channels, two and two, that rotate as the axes of a sensor do
    augment.rotate_degrees = 30.0  # standard deviation of a window's angle (HAPT's phones: 24)
    augment.mix_style = 0.0  # part of the windows that take mean and deviation towards another's
    augment.mix_concentration = 0.1  # of the other's share: Beta(0.1, 0.1), mostly none or all
    augment.masks = 0  # spans of a window whose features are hidden
    augment.mask_frames = 20  # frames of the longest that is drawn; 4 s at 5 frames per second

    optim = config.optim = ConfigDict()
    optim.schedule = "step"  # 'step' as the paper, or 'cosine' to zero
    optim.learning_rate = 1e-5  # of Adam: 1e-5 for ActivityNet, 2e-3 for HACS (section 4.1)
    optim.warmup_steps = 0  # linear, from zero
    optim.decay_at = 7 / 15  # 'step': part of training after which the rate drops (section 4.1)
    optim.decay_factor = 0.1  # 'step': to this part (section 4.1)

    train = config.train = ConfigDict()
    train.batch_size = 32  # windows a step, over all devices (ours)
    train.even_windows = False  # frames near the ends of recordings are seen as often (ours)
    train.rematerialise = False  # compute activations again on the way back: less memory, more time
    train.steps = 1000
    # Part of the training recordings that a first run holds aside to choose the open fields of
    # `eval` on; the run itself trains on all. 0: no first run, and what is open suits most data.
    train.rehearsal = 0.0
    train.log_every = 10  # steps
    train.eval_every = 100  # steps; 0: only at the end
    train.save_every = 100  # steps; a multiple of log_every
    train.keep = 3  # checkpoints

    evaluation = config.eval = ConfigDict()
    evaluation.batch_size = 8  # windows, over all devices
    evaluation.window_overlap = 0.5  # of neighbouring windows in inference
    evaluation.whole_windows = False  # the last window of a recording ends with it, unpadded (ours)
    evaluation.class_scores = ""  # file of video-level scores (section 4.1); else the frames' own
    evaluation.top_classes = 2  # of that file, for every proposal: the paper's top-1 or top-2
    evaluation.fusion = "product"  # of proposal and class score; 'sqrt' takes its root
    evaluation.class_mean = "arithmetic"  # of frames in a proposal, or 'geometric' (ours)
    evaluation.renormalise = False  # divide the classes' scores by their mass on actions
    evaluation.snap = 0  # frames a boundary may move to the largest start or end score (ours)
    evaluation.snap_mean = False  # and from there to the mean of the frames around it, by score
    evaluation.snap_offset = 0.0  # where in its frame a snapped boundary lies: 0.5 is the middle
    evaluation.boundary_power = 0.0  # of start times end score in a proposal's score (ours)
    evaluation.sigma = 0.4  # of Gaussian soft-NMS per class; 0.85 class-agnostic (author)
    evaluation.min_score = 1e-4  # a candidate below it is dropped, but not with `class_scores`
    evaluation.least_precision = 0.0  # thresholds: best recall at this precision; 0: best F1 (ours)
    evaluation.max_detections = 200  # of a recording; the paper keeps 100 proposals (section 3.4)
    return config


PLAIN = {  # the method without what we have added to it: every such field belongs here
    "model.normalise": False,
    "model.input_highway": False,
    "model.pyramid": 0,
    "model.classifier": False,
    "loss.snap": 0,
    "loss.positive_tiou": 0.5,
    "augment.noise": 0.0,
    "augment.mirror": (),
    "augment.rotate": (),
    "augment.rotate_degrees": 30.0,
    "augment.mix_style": 0.0,
    "augment.mix_concentration": 0.1,
    "augment.masks": 0,
    "augment.mask_frames": 20,
    "train.even_windows": False,
    "train.rehearsal": 0.0,
    "eval.whole_windows": False,
    "eval.class_mean": "arithmetic",
    "eval.renormalise": False,
    "eval.snap": 0,
    "eval.snap_mean": False,
    "eval.snap_offset": 0.0,
    "eval.boundary_power": 0.0,
}

# To the letter, whatever the config says: all of model, sampling and loss but what
# `config.literal` has with its reasons.
PAPER = PLAIN | {
    "model.branches": ("graph", "atrous", "global"),  # Eq. 2
    "model.dilations": (1, 10, 20, 30),  # section 4.3
    "model.global_convolution": False,
    "model.snippet_neighbours": 4,
    "model.aggregate": "sum",  # Eq. 1
    "model.decoder_stride": 1,
    "model.stride": 8,  # section 3.3
    "model.num_bins": 32,
    "model.context": 0.5,
    "model.interpolation": "linear",
    "model.proposal_neighbours": 4,  # section 3.3
    "model.proposal_layers": 3,
    "model.proposal_graph": True,
    "model.similarity": "tiou",
    "sampling.seeds": 50,  # section 3.3
    "sampling.second_hop": "remaining",
    "sampling.edges": "list",
    "loss.segmentation": 1.0,  # Eq. 11
    "loss.segmentation_classes": True,
    "loss.detection": 1.0,
    "loss.boundary": 1.0,
    "loss.boundary_radius": 0,  # Eq. 5
    "loss.balance_boundaries": False,
    "loss.balance_proposals": False,
    "eval.fusion": "product",
    "eval.max_detections": 100,
}

RUNLOCAL = {  # any config on any laptop in half a minute, without data
    "data.source": "synthetic",
    "data.dir": "data",
    "data.num_frames": 64,
    "data.num_channels": None,
    "data.num_classes": None,
    "data.train_split": "training",
    "data.eval_split": "validation",
    "data.holdout": "",
    "data.synthetic_recordings": 16,
    "data.synthetic_frames": 64,
    "augment.mirror": (),  # the synthetic channels mean nothing
    "augment.rotate": (),
    "augment.masks": 0,  # would hide most of so short a window
    "model.width": 16,
    "model.stride": 4,
    "model.dilations": (1, 2, 3, 4),
    "model.num_bins": 8,
    "sampling.seeds": 8,
    "train.rehearsal": 0.0,
    "train.batch_size": 8,
    "train.steps": 20,
    "train.eval_every": 10,
    "train.save_every": 10,
    "eval.batch_size": 4,
    "eval.class_scores": "",
}

SWITCHES: Mapping[str, Mapping[str, Any]] = {  # applied in this order
    "plain": PLAIN,
    "paper": PAPER,
    "runlocal": RUNLOCAL,
    **{f"ablation={name}": fields for name, fields in ABLATIONS.items()},
}


def with_arguments(config: ConfigDict, argument: str) -> ConfigDict:
    """Applies the comma-separated switches behind a config's colon, e.g. `paper,runlocal`.

    Raises:
        ValueError: a switch that does not exist, with those that do.
    """
    chosen = [part.strip() for part in argument.split(",") if part.strip()]
    for part in chosen:
        if part not in SWITCHES:
            guess = difflib.get_close_matches(part, SWITCHES, n=1)
            hint = f" Did you mean '{guess[0]}'?" if guess else ""
            raise ValueError(
                f"unknown switch '{part}' in ':{argument}'.{hint} "
                f"Known switches, separated by commas: {', '.join(SWITCHES)}."
            )
    ablations = [part for part in dict.fromkeys(chosen) if part.startswith("ablation=")]
    if len(ablations) > 1:
        raise ValueError(
            f"':{argument}' names {len(ablations)} ablations, but each sets all that the others "
            "set: name one."
        )
    for name, fields in SWITCHES.items():
        if name in chosen:
            config.update_from_flattened_dict(fields)
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns `{"model.width": 256, ...}` in JSON's types (tuples as lists)."""
    flat = {}
    for group, value in config.to_dict().items():
        fields = {f"{group}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {}
        flat.update(fields or {group: value})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}
