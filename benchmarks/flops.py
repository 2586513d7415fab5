"""Counts from shapes the fewest operations that we know a video to need, whatever a program does.

A multiplication and its addition are two. Of what is not a product with a kernel only the distances
of the snippet graph, the cosines and the sums over neighbours are counted.
"""

from ml_collections import ConfigDict

BACKWARD = 2  # a product's two gradients cost as much as itself each


def gflop(config: ConfigDict, num_channels: int, num_classes: int, rows: int) -> dict[str, float]:
    """Of the forward pass of one video, by part: 'SSN', 'heads', 'boundaries', 'SGAlign', 'PDN'.

    `heads` is the classification of the frames alone, `boundaries` the two others; `rows` are the
    proposals that are scored: M, or in training those of the sample.
    """
    model, frames = config.model, config.data.num_frames
    width, q = model.width, model.decoder_stride
    nodes = {stride: frames // stride for stride in (1, 2, 4, 8)}
    last, decoded = nodes[8], frames // q

    def product(count: int, inputs: int, outputs: int) -> float:
        return 2.0 * count * inputs * outputs

    ssn = product(nodes[2], 3 * num_channels, width)  # encoder: k = 3, stride 2
    ssn += product(nodes[4], 3 * width, width) + product(last, 3 * width, width)
    if "graph" in model.branches:
        ssn += 3.0 * last * last * width  # subtract, square, add
        ssn += product(last, 2 * width, width)
        ssn += 2.0 * last * model.snippet_neighbours * width
    if "atrous" in model.branches:
        ssn += len(model.dilations) * product(last, 3 * width, width)
    if "global" in model.branches and model.global_convolution:
        ssn += product(1, width, width)
    branches = {"graph": 1, "atrous": len(model.dilations), "global": 1}
    ssn += product(last, sum(branches[name] for name in model.branches) * width, width)  # fuse
    ssn += product(nodes[4], width, width)  # highway
    ssn += product(decoded, 3 * 2 * width, width)  # decoder

    # Nodes times the R + 1 differences of neighbouring kernels, integrated; a proposal then adds up
    # R + 1 rows. Of few proposals, each bin's own product is less.
    edges = model.num_bins + 1
    align = product(decoded, width, edges * width) + 2.0 * rows * edges * width
    align = min(align, product(rows, model.num_bins * width, width))

    layer = product(rows, 2 * width, width)  # the node's own, and what it is to its neighbours
    layer += 2 * 2.0 * rows * model.proposal_neighbours * width  # cosines, weighted sum
    counts = {
        "SSN": ssn,
        "heads": product(decoded, width, num_classes + 1),
        "boundaries": 2 * (product(decoded, 3 * width, width) + product(decoded, width, 1)),
        "SGAlign": align,
        "PDN": model.proposal_layers * layer + product(rows, width, 2),
    }
    return {name: count / 1e9 for name, count in counts.items()}
