"use strict";
// The list of videos, their timelines and the sorting of tables. All text from the data is set as
// text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const PAGE = 100; // rows of the list drawn at a time

  // ---- one flat list of whole numbers a video becomes objects when it is looked at
  const truthsOf = (video) => rows(video.truths, 3, ([start, end, label]) => ({start, end, label}));
  const detectionsOf = (video) => rows(video.detections, 5,
    ([start, end, label, score, outcome]) => ({start, end, label, score: score * data.score_unit, outcome}));
  function rows(flat, width, make) {
    const made = [];
    for (let i = 0; i < flat.length; i += width) made.push(make(flat.slice(i, i + width)));
    return made;
  }
  function labelsOf(video) {
    if (blind) return new Set(detectionsOf(video).filter(counts).map((d) => d.label));
    const labels = new Set();
    for (let i = 2; i < video.truths.length; i += 3) labels.add(video.truths[i]);
    return labels;
  }
  // Nothing is known of the truth of new recordings: there, what counts at the thresholds is listed.
  const blind = !!data.blind;
  const percent = (thousandths) => thousandths === null ? "–" : (thousandths / 10).toFixed(1);
  const seconds = (hundredths) => (hundredths / 100).toFixed(2) + " s";
  const clock = (s) => s < 60 ? `${+s.toFixed(1)} s`
    : `${Math.floor(Math.round(s) / 60)}:${String(Math.round(s) % 60).padStart(2, "0")}`;
  const topScore = 10000 * data.score_unit;
  // The page opens at the thresholds of the classes, if there are any; null: a class never counts.
  let ofClasses = !!data.thresholds;
  const counts = (d) => !data.thresholds
    || data.thresholds[d.label] !== null && d.score >= data.thresholds[d.label];
  for (const video of data.videos) video.labels = labelsOf(video);

  function element(parent, name, attributes = {}, text) {
    const node = parent.namespaceURI === SVG || name === "svg"
      ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }

  // ---- the list
  const orders = {
    worst: (a, b) => rank(a, 2000) - rank(b, 2000),
    best: (a, b) => rank(b, -1) - rank(a, -1),
    lost: (a, b) => change(a) - change(b),
    gained: (a, b) => change(b) - change(a),
    id: (a, b) => a.id < b.id ? -1 : 1,
    most: (a, b) => b.count - a.count,
    fewest: (a, b) => a.count - b.count,
  };
  const rank = (video, without) => video.ap === null ? without : video.ap;
  const change = (video) => video.ap === null || video.other === null ? 0 : video.ap - video.other;
  let shown = [], selected = null;

  function refresh() {
    const text = byId("search").value.trim().toLowerCase();
    const label = byId("class").value === "" ? null : +byId("class").value;
    shown = data.videos.filter((video) => video.id.toLowerCase().includes(text)
      && (label === null || video.labels.has(label)));
    shown.sort(orders[byId("order").value]);
    byId("found").textContent = `${shown.length.toLocaleString("en")} of `
      + `${data.videos.length.toLocaleString("en")} videos`;
    byId("list").replaceChildren();
    more();
    byId("list").scrollTop = 0;
    if (shown.length && !shown.includes(selected)) select(shown[0]);
  }
  function more() {
    const list = byId("list");
    list.querySelector(".more")?.remove();
    const from = list.childElementCount;
    for (const video of shown.slice(from, from + PAGE)) {
      const row = element(list, "button", {role: "option", "aria-selected": video === selected});
      element(row, "span", {class: "id"}, video.id);
      if (video.other !== null && video.ap !== null) {
        const delta = change(video);
        element(row, "span", {class: delta > 0 ? "up" : delta < 0 ? "down" : ""},
          `${delta > 0 ? "+" : ""}${(delta / 10).toFixed(1)}`);
      }
      element(row, "span", {class: "ap"}, blind ? video.count : percent(video.ap));
      row.video = video;
      row.addEventListener("click", () => select(video));
    }
    if (list.childElementCount < shown.length) {
      const left = shown.length - list.childElementCount;
      element(list, "button", {class: "more"}, `show more (${left.toLocaleString("en")} left)`)
        .addEventListener("click", more);
    }
  }
  function select(video) {
    selected = video;
    load(video.media);
    for (const row of byId("list").children) {
      if (row.video) row.setAttribute("aria-selected", row.video === video);
    }
    draw();
  }
  function moveInList(event) {
    const step = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[event.key];
    const row = step && document.activeElement[step];
    if (row) { event.preventDefault(); row.focus(); if (row.video) select(row.video); }
  }

  function cutByClass(on) {
    ofClasses = on;
    byId("own").setAttribute("aria-pressed", on);
    if (selected) draw();
  }

  // ---- the video itself; where the browser cannot play it, the still before the moment
  const player = byId("player");
  let now = 0; // seconds
  function load(media) {
    now = 0;
    if (!player) return; // a page without videos
    byId("media").hidden = !media;
    if (!media) { player.removeAttribute("src"); return; }
    playable(!!media.address);
    if (media.address) player.src = media.address;
  }
  function playable(yes) {
    const media = selected.media;
    player.hidden = !yes;
    byId("still").hidden = yes || !media.stills.length;
    byId("unplayable").hidden = yes;
    byId("unplayable").textContent = media.address
      ? `This browser does not play ${decodeURIComponent(media.address)}, or it is not there any more. `
        + "Stills stand for it." : "The video is not on this machine. Stills stand for it.";
    moveTo(now);
  }
  function goTo(seconds) {
    if (!player.hidden) player.currentTime = seconds;
    moveTo(seconds);
  }
  function moveTo(seconds) {
    now = seconds;
    const {stills} = selected.media;
    if (stills.length) {
      byId("still").src = (stills.findLast(([time]) => time <= 100 * now + 1) || stills[0])[1];
    }
    const head = byId("timeline").querySelector(".head");
    if (head) head.setAttribute("transform", `translate(${head.at(100 * now)})`);
  }

  // ---- the timeline: for each class its truths, its segmentation curve and its detections
  const LEFT = 6, BAR = 9, GAP = 2, TRUTH = 16, CURVE = 46, TRACE = 40, STILL = 44;
  function draw() {
    const video = selected, stage = byId("timeline");
    const share = byId("score").value / 100; // squared below: finer where scores are low
    const least = share ? topScore * share ** 2 : -Infinity;
    byId("threshold").textContent = ofClasses ? "" : share ? least.toPrecision(3) : "any";
    const truths = truthsOf(video);
    const all = detectionsOf(video);
    const kept = all.filter((d) => ofClasses ? counts(d) : d.score >= least);
    heading(video, truths, all, kept);
    stage.replaceChildren();
    const width = Math.max(stage.clientWidth, 300);
    const span = Math.max(video.duration, 1);
    const x = (time) => LEFT + (width - 2 * LEFT) * time / span;
    const svg = element(stage, "svg", {role: "img", "aria-label": `timeline of ${video.id}`});
    const backdrop = element(svg, "g");
    let y = 26;
    if (video.media) y = drawStills(svg, video.media.stills, span, x, y);
    for (const label of lanes(truths, kept)) {
      const own = truths.filter((t) => t.label === label);
      const found = kept.filter((d) => d.label === label);
      element(svg, "text", {class: "label", x: LEFT, y: y + 12}, data.labels[label]);
      y += 18;
      if (own.length) {
        for (const truth of own) {
          const missed = !found.some((d) => overlap(d, truth) >= data.tiou);
          hover(element(svg, "rect", {class: `truth hit${missed ? " missed" : ""}`, x: x(truth.start),
            y, width: Math.max(x(truth.end) - x(truth.start), 2), height: TRUTH - 4, rx: 3}),
            () => `${data.labels[label]}\ntruth ${seconds(truth.start)} – ${seconds(truth.end)}`
              + `${missed ? "\nmissed by what is shown" : ""}`);
        }
        y += TRUTH;
      }
      const curve = video.curves && video.curves[label];
      if (curve) { drawCurve(svg, video, own, curve, x, y); y += CURVE + 6; }
      y = drawDetections(svg, found, own, x, y) + 12;
    }
    if (!truths.length && !kept.length) {
      element(svg, "text", {x: LEFT, y: y + 12}, "no action and no detection to show");
      y += 30;
    }
    if (video.signal) y = drawSignal(svg, video.signal, x, y);
    axis(backdrop, span, x, y, width);
    if (video.media) follow(svg, span, x, y);
    svg.setAttribute("height", y + 24);
    svg.setAttribute("viewBox", `0 0 ${width} ${y + 24}`);
  }
  function lanes(truths, detections) {
    const labels = new Set(truths.map((t) => t.label)); // those with truths first, by start
    for (const detection of detections) labels.add(detection.label); // then by best score
    return labels;
  }
  function drawDetections(svg, detections, truths, x, y) {
    const taken = []; // of each row of bars the spans in use: a bar goes where none overlaps it
    for (const d of detections) {
      const left = x(d.start), right = Math.max(x(d.end), left + 2);
      let row = taken.findIndex((spans) => spans.every(([a, b]) => right + 1 < a || left > b + 1));
      if (row < 0) row = taken.push([]) - 1;
      taken[row].push([left, right]);
      const bar = element(svg, "rect", {class: "hit detection", x: left, y: y + row * (BAR + GAP),
        width: right - left, height: BAR, rx: 2, fill: data.colors[blind ? 0 : d.outcome],
        "fill-opacity": 0.4 + 0.6 * Math.sqrt(Math.max(d.score, 0) / topScore)});
      bar.start = d.start;
      hover(bar, () => describe(d, truths));
    }
    return y + taken.length * (BAR + GAP);
  }
  function describe(d, truths) {
    const best = Math.max(0, ...truths.map((truth) => overlap(d, truth)));
    const known = blind ? "" : `, tIoU ${best.toFixed(2)}\n${data.outcomes[d.outcome]}`;
    return `${data.labels[d.label]}\n${seconds(d.start)} – ${seconds(d.end)}\n`
      + `score ${+d.score.toPrecision(4)}${confidence(d.score)}${known}`;
  }
  // Linear between knots, flat beyond: as numpy.interp.
  function confidence(score) {
    const knots = data.confidence || [];
    if (!knots.length) return "";
    const next = knots.findIndex(([x]) => x >= score);
    const [x, top] = knots[next < 0 ? knots.length - 1 : next];
    const [before, low] = next > 0 ? knots[next - 1] : [x - 1, top];
    const share = low + (top - low) * (score - before) / (x - before);
    return `, confidence ${(100 * share).toFixed(share < 0.01 ? 1 : 0)} %`;
  }
  function drawCurve(svg, video, truths, curve, x, y) {
    const height = (value) => y + CURVE * (1 - value / 100);
    for (const truth of truths) {
      element(svg, "rect", {class: "step", x: x(truth.start), y, height: CURVE,
        width: Math.max(x(truth.end) - x(truth.start), 1)});
    }
    const at = (i) => x(video.span * (i + 0.5) / curve.length);
    const points = curve.map((value, i) => `${at(i).toFixed(1)},${height(value).toFixed(1)}`);
    element(svg, "polyline", {class: "curve", points: points.join(" ")});
  }
  function drawSignal(svg, signal, x, y) {
    signal.names.forEach((name, channel) => {
      element(svg, "text", {x: LEFT, y: y + 12}, `${name}, ${signal.ranges[channel]}`);
      y += 18;
      for (const piece of signal.pieces) {
        const values = piece.values[channel];
        const at = (i) => x(piece.start + (piece.end - piece.start) * (i + 0.5) / values.length);
        const points = values.map((v, i) => `${at(i).toFixed(1)},${(y + TRACE * (1 - v / 100)).toFixed(1)}`);
        element(svg, "polyline", {class: "signal", points: points.join(" ")});
      }
      y += TRACE + 8;
    });
    return y;
  }
  function drawStills(svg, stills, span, x, y) {
    const most = Math.floor((x(span) - x(0)) / 48), every = Math.ceil(stills.length / most);
    const some = stills.filter((_, i) => i % every === 0);
    some.forEach(([time, href], i) => {
      const end = i + 1 < some.length ? some[i + 1][0] : span;
      element(svg, "image", {href, x: x(time), y, width: Math.max(x(end) - x(time) - 1, 1),
        height: STILL, preserveAspectRatio: "xMidYMid slice"});
    });
    return some.length ? y + STILL + 10 : y;
  }
  function follow(svg, span, x, y) {
    svg.classList.add("seeks");
    svg.addEventListener("click", (event) => {
      const time = span * (event.clientX - svg.getBoundingClientRect().left - x(0)) / (x(span) - x(0));
      goTo((event.target.start ?? Math.min(Math.max(time, 0), span)) / 100);
    });
    element(svg, "line", {class: "head", y1: 14, y2: y}).at = x;
    moveTo(now);
  }
  function overlap(a, b) {
    const both = Math.max(0, Math.min(a.end, b.end) - Math.max(a.start, b.start));
    const either = (a.end - a.start) + (b.end - b.start) - both;
    return either > 0 ? both / either : 0;
  }
  function axis(svg, span, x, height, width) {
    const goal = span / 100 / Math.max(width / 110, 2);
    const step = [.1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]
      .find((s) => s >= goal) || Math.ceil(goal / 3600) * 3600;
    for (let time = 0; time <= span / 100; time += step) {
      const at = x(100 * time);
      element(svg, "line", {class: "grid", x1: at, x2: at, y1: 16, y2: height});
      const anchor = time === 0 ? "start" : at > width - 30 ? "end" : "middle";
      for (const y of [11, height + 16]) {
        element(svg, "text", {x: at, y, "text-anchor": anchor}, clock(time));
      }
    }
    element(svg, "line", {class: "rule", x1: x(0), x2: x(span), y1: height, y2: height});
  }
  function heading(video, truths, all, kept) {
    const node = byId("heading");
    node.replaceChildren();
    element(node, "h3", {}, video.id);
    const other = video.other === null ? "" : ` (other result: ${percent(video.other)})`;
    if (!blind) element(node, "span", {}, `AP ${percent(video.ap)}${other}`);
    element(node, "span", {}, clock(video.duration / 100));
    if (!blind) element(node, "span", {}, `${truths.length} action${truths.length === 1 ? "" : "s"}`);
    const rest = video.rest ? `, ${video.rest.toLocaleString("en")} more not on this page` : "";
    element(node, "span", {id: "shown"}, `${kept.length} of ${all.length} detections${rest}`);
  }
  function hover(node, text) {
    node.addEventListener("mousemove", (event) => {
      const tip = byId("tip");
      tip.textContent = text();
      tip.hidden = false;
      const x = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
      const below = event.clientY + 16 + tip.offsetHeight < window.innerHeight;
      tip.style.left = `${x}px`;
      tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 12}px`;
    });
    node.addEventListener("mouseleave", () => { byId("tip").hidden = true; });
  }

  // ---- tables sort by a click on a heading
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const name = head.textContent;
      head.replaceChildren();
      element(head, "button", {type: "button"}, name).addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].textContent;
        const number = (text) => parseFloat(text.replaceAll(",", "")) || 0;
        const compare = head.classList.contains("text")
          ? (a, b) => value(a).localeCompare(value(b))
          : (a, b) => number(value(a)) - number(value(b));
        body.append(...[...body.rows].sort((a, b) => down ? compare(b, a) : compare(a, b)));
      });
    });
  }

  // ---- start
  function start() {
    const key = (color, name) => element(byId("legend"), "span", {style: `--c:${color}`}, name);
    if (!blind) key("var(--ink)", "truth");
    if (data.videos.some((video) => video.curves)) key("var(--curve)", "segmentation score");
    data.outcomes.forEach((name, i) => key(data.colors[i], name));
    element(byId("class"), "option", {value: ""}, "all classes");
    data.labels.forEach((label, i) => element(byId("class"), "option", {value: i}, label));
    byId("search").addEventListener("input", refresh);
    byId("class").addEventListener("change", refresh);
    byId("order").addEventListener("change", refresh);
    player?.addEventListener("error", () => player.getAttribute("src") && playable(false));
    for (const name of ["timeupdate", "seeking"]) player?.addEventListener(name, () => moveTo(player.currentTime));
    byId("own").hidden = !data.thresholds;
    byId("own").addEventListener("click", () => cutByClass(!ofClasses));
    byId("score").addEventListener("input", () => cutByClass(false));
    cutByClass(ofClasses);
    window.addEventListener("resize", () => selected && draw());
    if (data.videos.length) refresh();
    byId("list").addEventListener("keydown", moveInList);
  }
  if (byId("list")) start();
  document.documentElement.dataset.ready = "true";
})();
