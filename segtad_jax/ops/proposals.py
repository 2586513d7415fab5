"""The grid of proposals (Eq. 8), its graph and its neighbourhoods, built on the host."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Real

SIMILARITIES = ("tiou", "center")
_CHUNK = 1 << 21  # entries of a temporary array: bounds the memory at any M


def proposal_grid(num_frames: int, stride: int) -> Int32[np.ndarray, "M 2"]:
    """Returns all segments [start, end) of whole cells of `stride` frames, by start, then length.

    Args:
        num_frames: T; a segment may end at T itself.
        stride: eta, frames.

    Returns:
        Segments in frames, M = n (n + 1) / 2 for n = T / eta cells.

    Raises:
        ValueError: where `stride` does not divide `num_frames`.
    """
    if stride < 1 or num_frames < stride or num_frames % stride:
        raise ValueError(
            f"num_frames={num_frames} is not a positive multiple of the proposal stride={stride}: "
            "choose a stride that divides num_frames"
        )
    start, end = np.triu_indices(num_frames // stride + 1, 1)
    return stride * np.stack([start, end], axis=1).astype(np.int32)


def proposal_pyramid(num_frames: int, stride: int, cells: int) -> Int32[np.ndarray, "M 2"]:
    """Returns segments whose boundaries are the coarser the longer they are, by start, then length.

    Those of up to 2 * `cells` cells are all of `proposal_grid`. Longer ones are of cells twice as
    long, and so on, so that each has more than `cells` of its own; M grows with T, not its square.

    Args:
        num_frames: T; a segment ends at T at most.
        stride: eta, frames, of the shortest.
        cells: how fine a long segment's boundaries are.

    Returns:
        Segments in frames, all of them in `proposal_grid(num_frames, stride)`.

    Raises:
        ValueError: as `proposal_grid`.
    """
    segments = proposal_grid(num_frames, stride)
    scale = stride * pyramid_scales(segments, stride, cells)
    return segments[(segments % scale[:, None] == 0).all(axis=1)]


def pyramid_scales(
    segments: Int[np.ndarray, "M 2"], stride: int, cells: int
) -> Int32[np.ndarray, " M"]:
    """Returns the strides of segments in a `proposal_pyramid`, as multiples of the finest."""
    lengths = (segments[:, 1] - segments[:, 0]) / (2 * cells * stride)
    return 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int32)


def neighbour_table(
    segments: Real[np.ndarray, "M 2"], k: int, similarity: str = "tiou"
) -> Int32[np.ndarray, "M {k}"]:
    """Returns the `k` proposals most similar to each proposal, best first, never itself.

    Args:
        segments: [start, end) in any unit. A full `proposal_grid` takes O(M), others O(M^2) time.
        k: number of neighbours, fewer than M.
        similarity: 'tiou', ties to the lower index; or 'center' (Table 8), minus the distance of
            the centres, ties to the higher tIoU, then to the lower index.

    Returns:
        Rows of `segments`. All comparisons are made in float64.

    Raises:
        ValueError: on an unknown similarity or k outside 1..M-1.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity={similarity!r} is unknown: use one of {SIMILARITIES}")
    if not 1 <= k < len(segments):
        raise ValueError(
            f"k={k} neighbours among M={len(segments)} proposals: k must lie in 1..M-1; "
            "use a smaller k, a smaller stride or more frames"
        )
    num_cells = _cells_of_full_grid(segments)
    if num_cells > k:
        return _grid_table(num_cells, k, similarity)
    return _brute_force_table(segments, k, similarity)


def neighbourhoods(
    segments: Real[np.ndarray, "M 2"],
    k: int,
    similarity: str = "tiou",
    second_hop: str = "own",
) -> tuple[Int32[np.ndarray, "M n"], Float32[np.ndarray, "M n"], Int32[np.ndarray, "M n {k}"]]:
    """Returns what training samples around each proposal as a seed (section 3.3, after SAGE).

    These are 1 + k + k*k proposals: the seed; its k neighbours; then for each of these in turn its
    top k among the proposals that are neither the seed nor in the first hop. So second hops repeat
    one another, and equal copies are computed once; unless each is also without those before it.

    Args:
        segments: [start, end) in any unit.
        k: neighbours per proposal.
        similarity: as in `neighbour_table`.
        second_hop: 'own', or 'remaining' for second hops that do not repeat one another.

    Returns:
        members: for each seed the rows of `segments` that are sampled, in order of their first
            copies; n is what the seed with the most of them needs, others end with copies.
        copies: how often each member is sampled, 1 + k + k*k in all; 0 where it fills up.
        edges: for each member the positions, 0..n-1, of its k most similar other proposals among
            the members: never a copy of itself, and of several copies only the first; ties to the
            lower proposal index. So the seed and its first hop keep their true neighbours.

    Raises:
        ValueError: where M is not above k*k + 2k, or as `neighbour_table`.
    """
    num_proposals = len(segments)
    if num_proposals <= k * k + 2 * k:
        raise ValueError(
            f"M={num_proposals} proposals are too few for neighbourhoods of k={k}: more than "
            f"k*k + 2k = {k * k + 2 * k} are needed; use more frames, a smaller stride or fewer "
            "neighbours"
        )
    size = 1 + k + k * k
    # A neighbour's list loses at most the seed, k - 1 of the first hop and the second hops before.
    repeats = second_hop == "own"
    table = neighbour_table(segments, 2 * k if repeats else k * k + k, similarity)
    members = np.empty((num_proposals, size), np.int32)
    copies = np.empty((num_proposals, size), np.float32)
    seeds = np.arange(num_proposals, dtype=np.int32)
    for rows in _chunks(num_proposals, size * size):
        members[rows], copies[rows] = _copies_last(_two_hops(seeds[rows], table, k, repeats))
    size = int(np.count_nonzero(copies, axis=1).max())
    members, copies = members[:, :size].copy(), copies[:, :size].copy()
    edges = np.empty((num_proposals, size, k), np.int32)
    for rows in _chunks(num_proposals, size * size):
        edges[rows] = _edges_within(members[rows], segments, k, similarity)
    return members, copies, edges


def _two_hops(
    seeds: Int32[np.ndarray, " S"], table: Int32[np.ndarray, "M listed"], k: int, repeats: bool
) -> Int32[np.ndarray, "S n"]:
    drawn = inner = np.concatenate([seeds[:, None], table[seeds, :k]], axis=1)
    for hop in inner[:, 1:].T:
        candidates = table[hop]  # [S, listed]
        taken = (candidates[..., None] == (inner if repeats else drawn)[:, None]).any(-1)
        second = np.take_along_axis(candidates, _first_true(~taken, k), axis=1)
        drawn = np.concatenate([drawn, second], axis=1)
    return drawn


def _copies_last(
    members: Int32[np.ndarray, "S n"],
) -> tuple[Int32[np.ndarray, "S n"], Int[np.ndarray, "S n"]]:
    """Sorts first copies to the front and counts how many rows each of them stands for."""
    same = members[:, :, None] == members[:, None]
    is_first = same.argmax(2) == np.arange(members.shape[1])
    order = np.argsort(~is_first, axis=1, kind="stable")
    copies = same.sum(2) * is_first
    return np.take_along_axis(members, order, axis=1), np.take_along_axis(copies, order, axis=1)


def _edges_within(
    members: Int32[np.ndarray, "S n"], segments: Real[np.ndarray, "M 2"], k: int, similarity: str
) -> Int[np.ndarray, "S n {k}"]:
    # Columns in order of the proposal make a stable sort break ties as it should, and put copies
    # behind the first of them.
    order = np.argsort(members, axis=1, kind="stable")
    columns = np.take_along_axis(members, order, axis=1)
    keys = _sort_keys(segments[members][:, :, None], segments[columns][:, None], similarity)
    repeated = np.diff(columns, axis=1, prepend=-1) == 0
    excluded = (members[:, :, None] == columns[:, None]) | repeated[:, None]
    best = np.lexsort((*keys, excluded))[..., :k]
    return np.take_along_axis(order[:, None], best, axis=-1)


def _sort_keys(
    a: Real[np.ndarray, "*#batch 2"], b: Real[np.ndarray, "*#batch 2"], similarity: str
) -> tuple[Float[np.ndarray, "*batch"], ...]:
    """Returns keys for np.lexsort, smaller where more similar."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    overlap = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    intersection = np.maximum(overlap, 0.0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection
    tiou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    if similarity == "tiou":
        return (-tiou,)
    return -tiou, np.abs(a.sum(-1) - b.sum(-1))


def _brute_force_table(
    segments: Real[np.ndarray, "M 2"], k: int, similarity: str
) -> Int32[np.ndarray, "M {k}"]:
    indices = np.arange(len(segments))
    table = np.empty((len(segments), k), np.int32)
    for rows in _chunks(len(segments), len(segments)):
        keys = _sort_keys(segments[rows, None], segments[None], similarity)
        itself = indices[rows, None] == indices
        table[rows] = np.lexsort((*keys, itself))[:, :k]
    return table


def _grid_table(num_cells: int, k: int, similarity: str) -> Int32[np.ndarray, "M {k}"]:
    """Returns the table of a full grid of more than k cells, from nearby proposals only.

    Moving one boundary a step towards a proposal that overlaps leads to a proposal of the grid with
    a higher tIoU. So whatever is more than k steps away has k better ones on the way to it, and
    every proposal overlaps at least num_cells - 1 >= k others. For 'center' likewise, by steps of
    both boundaries to or from each other and by steps of the centre: no shift of a boundary or of
    their sum exceeds k.
    """
    shift = np.mgrid[-k : k + 1, -k : k + 1].reshape(2, -1).T  # in order of the proposals' index
    distance = np.abs(shift)
    near = distance.sum(1) <= k if similarity == "tiou" else np.abs(shift.sum(1)) <= k
    shift = shift[near & (distance.sum(1) > 0)]

    # Similarity depends on the length and the shifts alone: one order for all of one length.
    by_length = np.stack([np.zeros(num_cells, int), np.arange(1, num_cells + 1)], axis=1)
    shifted = by_length[:, None] + shift
    order = np.lexsort(_sort_keys(by_length[:, None], shifted, similarity))

    cells = proposal_grid(num_cells, 1)
    table = np.empty((len(cells), k), np.int32)
    for rows in _chunks(len(cells), len(shift)):
        start, end = cells[rows].T
        ordered = shift[order[end - start - 1]]  # [rows, shifts, 2]
        near_start, near_end = start[:, None] + ordered[..., 0], end[:, None] + ordered[..., 1]
        exists = (near_start >= 0) & (near_start < near_end) & (near_end <= num_cells)
        chosen = _first_true(exists, k)
        s = np.take_along_axis(near_start, chosen, axis=1)
        e = np.take_along_axis(near_end, chosen, axis=1)
        table[rows] = s * num_cells - s * (s - 1) // 2 + (e - s - 1)
    return table


def _cells_of_full_grid(segments: Real[np.ndarray, "M 2"]) -> int:
    """Returns the number of cells where `segments` is a whole `proposal_grid`, else 0."""
    num_frames, stride = segments[:, 1].max(), segments[0, 1] - segments[0, 0]
    if stride < 1 or stride % 1 or num_frames % stride:
        return 0
    num_cells = int(num_frames // stride)
    if len(segments) != num_cells * (num_cells + 1) // 2:
        return 0
    grid = proposal_grid(int(num_frames), int(stride))
    return num_cells if np.array_equal(segments, grid) else 0


def _first_true(mask: Bool[np.ndarray, "rows columns"], k: int) -> Int[np.ndarray, "rows {k}"]:
    """Returns the columns of the first k True values of each row, which has at least k."""
    first = mask & (np.cumsum(mask, axis=1, dtype=np.int32) <= k)
    return np.nonzero(first)[1].reshape(-1, k)


def _chunks(num_rows: int, row_size: int) -> Iterator[slice]:
    step = max(1, _CHUNK // row_size)
    return (slice(first, first + step) for first in range(0, num_rows, step))
