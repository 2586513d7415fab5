"""A slow twin of the network and its losses: NumPy in float64, from the equations of the paper.

It shares no code with the package, and takes the tree of parameters and statistics that Flax has.
Every sum stands where the paper has it: adjacency matrices are matrices, bins are means over bins,
proposals are sorted by brute force, and a seed's neighbourhood has all of its 1 + K + K*K rows.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

Tree = dict[str, Any]


class Twin:
    """SegTAD with one set of variables; a call gives what `SegTAD.apply` gives.

    Of proposals a call gives `proposal_logits` [b, M, 2] or, around S seeds, [b, S, M, 2], which
    are NaN where a seed has not drawn a proposal, and `copies` [b, S, M], how often it has.
    """

    def __init__(self, config: ConfigDict, variables: Mapping[str, Any]):
        self.config, self.model = config, config.model
        self.total, self.k = config.data.num_frames, config.model.proposal_neighbours
        self.params = float64(variables["params"])
        self.stats = float64(variables["batch_stats"])
        self.segments = grid(config)

    def __call__(
        self,
        features: np.ndarray,
        num_frames: np.ndarray,
        seeds: np.ndarray | None = None,
        train: bool = False,
    ) -> tuple[Tree, Tree]:
        """The outputs, and the statistics after."""
        self.train, self.new_stats = train, float64(self.stats)
        x = np.array(features, np.float64)
        for video, count in zip(x, num_frames, strict=True):
            if self.model.normalise:
                video[:] = (video - self.stats["mean"]) / self.stats["std"]
            video[count:] = 0
        out = self.ssn(("ssn",), x, num_frames)
        if self.model.classifier:
            out["class_logits"] = self.ssn(("classifier",), x, num_frames)["frame_logits"]
        decoded = out.pop("decoded")
        if seeds is None:
            similar = similarity_order(self.segments, self.model.similarity)
            neighbours = {m: similar(m, range(len(self.segments)))[: self.k] for m in all_of(self)}
            out["proposal_logits"] = np.stack(
                [self.pdn(y, n, neighbours) for y, n in zip(decoded, num_frames, strict=True)]
            )
        else:
            drawn = [
                self.sampled(y, n, s) for y, n, s in zip(decoded, num_frames, seeds, strict=True)
            ]
            out["proposal_logits"] = np.stack([logits for logits, _ in drawn])
            out["copies"] = np.stack([copies for _, copies in drawn])
        return out, self.new_stats

    # Section 3.2: the 1D-SSN.

    def ssn(self, path: tuple[str, ...], x: np.ndarray, num_frames: np.ndarray) -> Tree:
        frames, encoded, stride = x, [], 1
        for layer in range(3):
            stride *= 2
            x = relu(self.conv((*path, f"encoder_{layer}"), x, stride=2))
            x = masked(x, real(x.shape[1], stride, num_frames))
            encoded.append(x)
        x = self.pag((*path, "pag"), x, real(x.shape[1], 8, num_frames))

        q = self.model.decoder_stride
        valid = real(self.total // q, q, num_frames)
        second = real(self.total // 4, 4, num_frames)
        low = self.highway((*path, "highway"), encoded[1], second)
        joined = [self.interpolated(x, 8, q, num_frames), self.interpolated(low, 4, q, num_frames)]
        if self.model.input_highway:
            joined.append(self.highway((*path, "input_highway"), frames[:, ::q], valid))
        x = masked(np.concatenate(joined, axis=-1), valid)
        y = masked(relu(self.conv((*path, "decoder"), x)), valid)

        def at_frames(logits: np.ndarray) -> np.ndarray:
            logits = self.interpolated(logits, q, 1, num_frames)
            return masked(logits, real(self.total, 1, num_frames))

        out = {
            "decoded": y,
            "frame_logits": at_frames(self.linear((*path, "segmentation"), y)),  # Eq. 3
        }
        for name in ("start", "end"):  # Eq. 6 and 7
            hidden = relu(self.conv((*path, f"{name}_conv"), y))
            out[f"{name}_logits"] = at_frames(self.linear((*path, name), hidden))[..., 0]
        return out

    def pag(self, path: tuple[str, ...], x: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Eq. 2, then Conv1D(k=1) and ReLU."""
        branches = []
        if "graph" in self.model.branches:
            kernel = at(self.params, (*path, "graph_kernel"))
            graphs = []
            for nodes, exists in zip(x, valid, strict=True):
                neighbours = {i: self.snippet_neighbours(nodes, exists, i) for i in all_of(nodes)}
                ones = np.ones((len(nodes), len(nodes)))
                graphs.append(self.edge_convolution(nodes, neighbours, exists, ones, kernel))
            branches.append(relu(np.stack(graphs)))
        if "atrous" in self.model.branches:
            for i, dilation in enumerate(self.model.dilations):
                y = self.conv((*path, f"atrous_{i}"), x, dilation=dilation)
                branches.append(relu(self.norm((*path, f"atrous_{i}_norm"), y, valid)))
        if "global" in self.model.branches:
            counts = np.maximum(valid.sum(axis=1), 1)[:, None, None]
            pooled = (x * valid[..., None]).sum(axis=1, keepdims=True) / counts
            if self.model.global_convolution:
                pooled = relu(self.conv((*path, "global"), pooled))
            branches.append(np.repeat(pooled, x.shape[1], axis=1))
        x = masked(np.concatenate(branches, axis=-1), valid)
        return masked(relu(self.conv((*path, "fuse"), x)), valid)

    def snippet_neighbours(self, nodes: np.ndarray, exists: np.ndarray, i: int) -> list[int]:
        """The top K others by minus mean squared error, ties to the lower index."""
        others = [j for j in all_of(nodes) if j != i and exists[j]]
        error = {j: np.mean((nodes[i] - nodes[j]) ** 2) for j in others}
        return sorted(others, key=lambda j: (error[j], j))[: self.model.snippet_neighbours]

    def highway(self, path: tuple[str, ...], x: np.ndarray, valid: np.ndarray) -> np.ndarray:
        y = self.conv(path, x)
        return masked(relu(self.norm((*path[:-1], f"{path[-1]}_norm"), y, valid)), valid)

    # Section 3.3: the PDN.

    def sampled(
        self, decoded: np.ndarray, num_frames: int, seeds: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits and copies of the proposals that each seed draws (SAGE), for one video."""
        everything = range(len(self.segments))
        similar = similarity_order(self.segments, self.model.similarity)
        drawn = []
        for seed in seeds:
            first = similar(seed, everything)[: self.k]
            remaining = [m for m in everything if m not in {seed, *first}]
            second = []
            for hop in first:
                second += similar(hop, remaining)[: self.k]
                if self.config.sampling.second_hop == "remaining":
                    remaining = [m for m in remaining if m not in second]
            drawn.append(Counter([seed, *first, *second]))
        logits = np.full((len(seeds), len(self.segments), 2), np.nan)
        copies = np.zeros((len(seeds), len(self.segments)))
        whole_list = self.config.sampling.edges == "list"
        for i, counter in enumerate(drawn):
            if i == 0 or not whole_list:
                rows = set().union(*drawn) if whole_list else set(counter)
                neighbours = {m: similar(m, rows)[: self.k] for m in rows}
                scores = self.pdn(decoded, num_frames, neighbours)
            for m, count in counter.items():
                logits[i, m], copies[i, m] = scores[m], count
        return logits, copies

    def pdn(
        self, decoded: np.ndarray, num_frames: int, neighbours: Mapping[int, Sequence[int]]
    ) -> np.ndarray:
        """[M, 2] logits of Eq. 9, of the proposals that have neighbours."""
        p = self.params["pdn"]
        rows = sorted(neighbours)
        exists = self.segments[:, 1] <= num_frames
        nodes = -(-num_frames // self.model.decoder_stride)
        x = np.zeros((len(self.segments), self.model.width))
        for m in rows:
            bins = self.sgalign(decoded[:nodes], *self.segments[m])  # [R, C]
            x[m] = relu(np.einsum("rc,rcw->w", bins, p["align_kernel"]) + p["align_bias"])
        x *= exists[:, None]
        for layer in range(self.model.proposal_layers):
            kernel = p[f"edge_{layer}_kernel"]
            if self.model.proposal_graph:
                length = np.sqrt((x**2).sum(axis=1) + 1e-12)
                cosine = x @ x.T / length[:, None] / length
                x = self.edge_convolution(x, neighbours, exists, cosine, kernel)
            else:
                x = x @ kernel  # Table 7
            x = relu(x) * exists[:, None]
        return x @ p["scores_kernel"] + p["scores_bias"]

    def sgalign(self, decoded: np.ndarray, start: float, end: float) -> np.ndarray:
        """Means over R bins of the proposal, widened by a part of its length on each side."""
        q, context = self.model.decoder_stride, self.model.context * (end - start)
        edges = np.linspace(start - context, end + context, self.model.num_bins + 1) / q
        means = []
        for low, high in itertools.pairwise(edges):
            total = np.zeros(decoded.shape[1])
            for t in range(max(int(np.floor(low)), -1), min(int(np.ceil(high)), len(decoded))):
                a, b = max(low, t), min(high, t + 1)  # the piece on [t, t + 1]
                if self.model.interpolation == "linear":
                    left, right = decoded[max(t, 0)], decoded[min(t + 1, len(decoded) - 1)]
                    total += (b - a) * (left + ((a + b) / 2 - t) * (right - left))
                elif t >= 0:
                    total += (b - a) * decoded[t]
            means.append(total / (high - low))
        return np.array(means)

    # Layers.

    def edge_convolution(
        self,
        x: np.ndarray,
        neighbours: Mapping[int, Sequence[int]],
        exists: np.ndarray,
        values: np.ndarray,
        kernel: np.ndarray,
    ) -> np.ndarray:
        """Eq. 1, [X, AX - X] W; neighbours that do not exist have no entry in A."""
        if self.model.aggregate == "max":
            upper, lower = np.split(kernel, 2)
            out = x @ (upper - lower)
            for i, others in neighbours.items():
                messages = [values[i, j] * x[j] @ lower for j in others if exists[j]]
                out[i] += np.max(messages, axis=0) if messages else 0
            return out
        adjacency = np.zeros((len(x), len(x)))
        for i, others in neighbours.items():
            counted = [j for j in others if exists[j]]
            for j in counted:
                share = len(counted) if self.model.aggregate == "mean" else 1
                adjacency[i, j] = values[i, j] / share
        return np.concatenate([x, adjacency @ x - x], axis=1) @ kernel

    def conv(
        self, path: tuple[str, ...], x: np.ndarray, stride: int = 1, dilation: int = 1
    ) -> np.ndarray:
        """Conv1D over [b, n, C], padded so that output node i has its centre at i * stride."""
        layer = at(self.params, path)
        taps, _, width = layer["kernel"].shape
        out = np.zeros((len(x), -(-x.shape[1] // stride), width)) + layer.get("bias", 0)
        for i in range(out.shape[1]):
            for tap in range(taps):
                node = i * stride + (tap - taps // 2) * dilation
                if 0 <= node < x.shape[1]:
                    out[:, i] += x[:, node] @ layer["kernel"][tap]
        return out

    def linear(self, path: tuple[str, ...], x: np.ndarray) -> np.ndarray:
        layer = at(self.params, path)
        return x @ layer["kernel"] + layer["bias"]

    def norm(self, path: tuple[str, ...], x: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """BatchNorm over the real nodes of the batch; momentum 0.9, epsilon 1e-5."""
        p, stats = at(self.params, path), at(self.stats, path)
        mean, var = stats["mean"], stats["var"]
        if self.train:
            mean, var = x[valid].mean(axis=0), x[valid].var(axis=0)
            new = at(self.new_stats, path)
            new["mean"] = 0.9 * stats["mean"] + 0.1 * mean
            new["var"] = 0.9 * stats["var"] + 0.1 * var
        return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def interpolated(
        self, x: np.ndarray, stride: int, q: int, num_frames: np.ndarray
    ) -> np.ndarray:
        """[b, T/stride, C] -> [b, T/q, C]: linear, held from the last real node on."""
        out = np.zeros((len(x), self.total // q, x.shape[2]))
        for video, count in enumerate(num_frames):
            nodes = np.arange(max(-(-count // stride), 1))
            for channel in range(x.shape[2]):
                values = x[video, : len(nodes), channel]
                at_frame = np.arange(self.total // q) * q / stride
                out[video, :, channel] = np.interp(at_frame, nodes, values)
        return out


# Section 3.2.3 and Eq. 10: what the outputs are compared with.


def targets(config: ConfigDict, actions: Sequence[tuple[float, float, int]]) -> Tree:
    """Labels of one window: `actions` are (start, end, class), 0..1 being the window."""
    total, radius = config.data.num_frames, config.loss.boundary_radius
    present, starts, ends = [set() for _ in range(total)], np.zeros(total), np.zeros(total)
    counted = []
    for start, end, label in actions:
        lower, upper = start * total, end * total
        first = int(np.floor(lower + 1e-4))
        last = max(int(np.floor(upper + 1e-4)) - 1, first)
        for t in range(total):
            if first <= t <= last:
                present[t].add(label)
            if 0 <= first < total and abs(t - first) <= radius:
                starts[t] = 1
            if 0 <= last < total and abs(t - last) <= radius:
                ends[t] = 1
        inside = max(lower, 0), min(upper, total)
        if inside[1] - inside[0] >= 0.5 * (upper - lower):
            counted.append(inside)
    classes = np.zeros((total, config.data.num_classes + 1))
    for t, labels in enumerate(present):
        classes[t, sorted(labels or {0})] = 1 / max(len(labels), 1)
    return {"classes": classes, "starts": starts, "ends": ends, "actions": counted}


def best_tiou(segment: Sequence[float], actions: Sequence[Sequence[float]]) -> float:
    """h_reg of Eq. 10."""
    return max((tiou(segment, action) for action in actions), default=0.0)


# Eq. 4, 5, 10 and 11.


def losses(
    config: ConfigDict,
    out: Tree,
    num_frames: np.ndarray,
    labels: Sequence[Tree],
    seed_weights: np.ndarray,
) -> dict[str, float]:
    """Every term of a batch, without its factor in Eq. 11; `out` is a `Twin`'s of S seeds."""
    segments = grid(config)
    frames = np.arange(config.data.num_frames) < num_frames[:, None]  # [b, T]
    classes, starts, ends = (
        np.stack([x[n] for x in labels]) for n in ("classes", "starts", "ends")
    )
    logits = out["frame_logits"]
    balanced = config.loss.balance_boundaries
    terms = {
        "segmentation": np.mean(cross_entropy(logits, classes)[frames]),
        "start": binary(out["start_logits"][frames], starts[frames], balanced),
        "end": binary(out["end_logits"][frames], ends[frames], balanced),
    }
    if not config.loss.segmentation_classes:  # Table 4
        inside = logits[..., 1:].mean(axis=-1) - logits[..., 0]
        terms["segmentation"] = binary(
            inside[frames], (classes[..., 0] == 0)[frames], balanced=False
        )
    if config.model.classifier:
        terms["classifier"] = np.mean(cross_entropy(out["class_logits"], classes)[frames])

    regress, classify, overlap = [], [], []  # one entry for each copy of each row
    for video, count in enumerate(num_frames):
        scores = out["start_logits"][video, :count], out["end_logits"][video, :count]
        for seed, weight in enumerate(seed_weights[video]):
            for m in np.flatnonzero(out["copies"][video, seed] * weight):
                if segments[m, 1] > count:
                    continue
                scale = 2 ** level(segments[m], config)
                segment = snapped(segments[m], scores, scale * config.loss.snap)
                for _ in range(int(out["copies"][video, seed, m])):
                    overlap.append(best_tiou(segment, labels[video]["actions"]))
                    regress.append(out["proposal_logits"][video, seed, m, 0])
                    classify.append(out["proposal_logits"][video, seed, m, 1])
    h_reg = np.array(overlap)
    h_cls = (h_reg > config.loss.positive_tiou).astype(float)
    terms["regression"] = np.mean((sigmoid(np.array(regress)) - h_reg) ** 2)
    terms["classification"] = binary(np.array(classify), h_cls, config.loss.balance_proposals)
    return terms


def l2(config: ConfigDict, params: Mapping[str, Any]) -> float:
    """L_r of Eq. 11: over kernels, not over biases and scales."""
    total = 0.0
    for name, value in params.items():
        if isinstance(value, Mapping):
            total += l2(config, value)
        elif name.endswith("kernel"):
            total += 0.5 * config.loss.l2 * np.sum(np.float64(value) ** 2)
    return total


def weighted_total(config: ConfigDict, terms: Mapping[str, float]) -> float:
    """Eq. 11 without L_r."""
    detection = terms["regression"] + terms["classification"]
    boundary = terms["start"] + terms["end"]
    return (
        config.loss.segmentation * terms["segmentation"]
        + config.loss.detection * detection
        + config.loss.boundary * boundary
        + terms.get("classifier", 0.0)
    )


def cross_entropy(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return -np.sum(classes * np.log(chances), axis=-1)


def binary(logits: np.ndarray, labels: np.ndarray, balanced: bool) -> float:
    chance = sigmoid(logits)
    each = -(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
    if not balanced:
        return float(np.mean(each))
    kinds = [each[labels == 1], each[labels == 0]]
    return sum(0.5 * kind.mean() for kind in kinds if len(kind))


def snapped(
    segment: Sequence[int], scores: tuple[np.ndarray, np.ndarray], radius: int
) -> tuple[float, float]:
    """Boundaries at the frames with the largest scores nearby; ties to the nearest, the earlier."""
    best = []
    for frame, score in zip((segment[0], segment[1] - 1), scores, strict=True):
        near = [t for t in range(frame - radius, frame + radius + 1) if 0 <= t < len(score)]
        best.append(min(near, key=lambda t, f=frame, s=score: (-s[t], abs(t - f), t)))
    moved = best[0], best[1] + 1
    return moved if radius and moved[0] < moved[1] else (segment[0], segment[1])


# Proposals (Eq. 8) and small things.


def grid(config: ConfigDict) -> np.ndarray:
    """[M, 2]: i % eta == 0 and j % eta == 0, by start, then length; in a pyramid eta grows."""
    total, stride = config.data.num_frames, config.model.stride
    pairs = [(i, i + j) for i in range(total) for j in range(1, total - i + 1)]
    eta = {pair: stride * 2 ** level(pair, config) for pair in pairs}
    return np.array([(a, b) for a, b in pairs if a % eta[a, b] == 0 and (b - a) % eta[a, b] == 0])


def level(segment: Sequence[int], config: ConfigDict) -> int:
    """How often the stride doubles until a segment has no more than two times `pyramid` cells."""
    found, cells = 0, 2 * config.model.pyramid * config.model.stride
    while config.model.pyramid and segment[1] - segment[0] > cells * 2**found:
        found += 1
    return found


def similarity_order(segments: np.ndarray, similarity: str) -> Any:
    """(proposal, candidates) -> the others among them, the most similar first."""

    bounds = segments.tolist()

    def key(a: int, b: int) -> tuple[float, ...]:
        overlap = tiou(bounds[a], bounds[b])
        if similarity == "tiou":
            return -overlap, b
        return abs(sum(bounds[a]) - sum(bounds[b])), -overlap, b

    return lambda m, candidates: sorted(
        (other for other in candidates if other != m), key=lambda other: key(m, other)
    )


def tiou(a: Sequence[float], b: Sequence[float]) -> float:
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0)
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def real(nodes: int, stride: int, num_frames: np.ndarray) -> np.ndarray:
    """[b, nodes]: a node of a layer with this stride sits at frame stride * node."""
    return np.arange(nodes) * stride < np.asarray(num_frames)[:, None]


def masked(x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.where(valid[..., None], x, 0.0)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def at(tree: Tree, path: Sequence[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def float64(tree: Mapping[str, Any]) -> Tree:
    """A copy of a tree, as nested dicts."""
    return {
        name: float64(value) if isinstance(value, Mapping) else np.array(value, np.float64)
        for name, value in tree.items()
    }


def all_of(x: Any) -> range:
    return range(len(x.segments if isinstance(x, Twin) else x))
