"""1D semantic segmentation network (section 3.2): encoder, PAG, decoder and the frame heads.

Arrays are [b, nodes, channels]. Node n of a layer with stride s sits at frame s * n. Frames beyond
a video's `num_frames` are zero after every layer and take no part in any statistic, so that a
padded video gives on its real frames what it gives alone.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from segtad_jax.ops.graph import edge_convolution, nearest_neighbours

ENCODER_STRIDE = 8  # L = 3 convolutions of stride 2

Nodes = Float[Array, "b n C"]
Valid = Bool[Array, "b n"]


class SSN(nn.Module):
    """Features -> decoded features and the logits of the three frame heads.

    Call:
        features [b, T, C], num_frames [b], train -> dict of
        `decoded` [b, T/q, width] (q = decoder_stride), `frame_logits` [b, T, D + 1],
        `start_logits` [b, T], `end_logits` [b, T]; with `refine` also `start_field` and `end_field`
        [b, T], what a frame adds to the choice of a refined boundary.
    """

    num_classes: int  # D
    width: int
    branches: Sequence[str]
    dilations: Sequence[int]
    global_convolution: bool
    neighbours: int
    aggregate: str
    decoder_stride: int
    input_highway: bool  # the decoder also sees a projection of the input
    refine: bool
    boundary_bias: float  # initial logit of the start and end heads
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(
        self, features: Float[Array, "b T C"], num_frames: Int[Array, " b"], train: bool
    ) -> dict[str, Array]:
        """See the class."""
        total = features.shape[1]
        levels = [_valid(total // s, s, num_frames) for s in (1, 2, 4, 8)]
        x = frames = _zero(features.astype(self.dtype), levels[0])
        encoded = []
        for i, valid in enumerate(levels[1:]):
            conv = nn.Conv(
                self.width,
                (3,),
                strides=2,
                padding=((1, 1),),
                dtype=self.dtype,
                name=f"encoder_{i}",
            )
            x = _zero(nn.relu(conv(x)), valid)
            encoded.append(x)
        x = PAG(
            self.width,
            self.branches,
            self.dilations,
            self.global_convolution,
            self.neighbours,
            self.aggregate,
            self.dtype,
            self.axis_name,
            name="pag",
        )(x, levels[3], train)

        q = self.decoder_stride
        valid = _valid(total // q, q, num_frames)

        def highway(
            x: Float[Array, "b m C"], stride: int, valid: Valid, name: str
        ) -> Float[Array, "b n W"]:
            conv = nn.Conv(
                self.width, (1,), strides=stride, use_bias=False, dtype=self.dtype, name=name
            )
            norm = MaskedBatchNorm(self.axis_name, name=f"{name}_norm")
            return _zero(nn.relu(norm(conv(x), valid, train)), valid)

        low = highway(encoded[1], 1, levels[2], "highway")
        joined = [_upsample(x, 8 // q, levels[3]), _upsample(low, 4 // q, levels[2])]
        if self.input_highway:
            joined.append(highway(frames, q, valid, "input_highway"))
        x = jnp.concatenate(joined, axis=-1).astype(self.dtype)
        fuse = nn.Conv(self.width, (3,), padding=((1, 1),), dtype=self.dtype, name="decoder")
        decoded = _zero(nn.relu(fuse(_zero(x, valid))), valid)

        def to_frames(
            logits: Nodes,
        ) -> Float[Array, "b T C"]:  # logits, not probabilities, are interpolated
            return _zero(_upsample(logits.astype(jnp.float32), q, valid), levels[0])

        def boundary_head(name: str) -> dict[str, Float[Array, "b T"]]:  # Eq. 6 and 7
            conv = nn.Conv(
                self.width, (3,), padding=((1, 1),), dtype=self.dtype, name=f"{name}_conv"
            )
            score = nn.Dense(
                1,
                bias_init=nn.initializers.constant(self.boundary_bias),
                dtype=self.dtype,
                name=name,
            )
            x = nn.relu(conv(decoded))
            found = {f"{name}_logits": to_frames(score(x))[..., 0]}
            if self.refine:
                field = nn.Dense(1, dtype=self.dtype, name=f"{name}_field")
                found[f"{name}_field"] = to_frames(field(x))[..., 0]
            return found

        segmentation = nn.Dense(self.num_classes + 1, dtype=self.dtype, name="segmentation")
        return {
            "decoded": decoded,
            "frame_logits": to_frames(segmentation(decoded)),  # Eq. 3
            **boundary_head("start"),
            **boundary_head("end"),
        }


class PAG(nn.Module):
    """Parallel atrous and graph convolutions (Eq. 2): [b, n, width] -> [b, n, width]."""

    width: int
    branches: Sequence[str]
    dilations: Sequence[int]
    global_convolution: bool
    neighbours: int
    aggregate: str
    dtype: jnp.dtype
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Nodes, valid: Valid, train: bool) -> Nodes:
        """See the class."""
        outputs = []
        if "graph" in self.branches:
            kernel = self.param(
                "graph_kernel", nn.initializers.lecun_normal(), (2 * self.width, self.width)
            )
            graph = jax.vmap(self._graph, in_axes=(0, 0, None))(x, valid, kernel)
            outputs.append(nn.relu(graph))
        if "atrous" in self.branches:
            for i, dilation in enumerate(self.dilations):
                conv = nn.Conv(
                    self.width,
                    (3,),
                    kernel_dilation=dilation,
                    padding=((dilation, dilation),),
                    use_bias=False,  # BatchNorm follows, as in DeepLabV3 (reference 6)
                    dtype=self.dtype,
                    name=f"atrous_{i}",
                )
                norm = MaskedBatchNorm(self.axis_name, name=f"atrous_{i}_norm")
                outputs.append(nn.relu(norm(conv(x), valid, train)))
        if "global" in self.branches:
            count = jnp.maximum(jnp.sum(valid, axis=1), 1)[:, None, None]
            pooled = jnp.sum(x, axis=1, keepdims=True, dtype=jnp.float32) / count
            if self.global_convolution:
                conv = nn.Conv(self.width, (1,), dtype=self.dtype, name="global")
                pooled = nn.relu(conv(pooled.astype(self.dtype)))
            outputs.append(jnp.broadcast_to(pooled, x.shape))
        joined = jnp.concatenate([y.astype(self.dtype) for y in outputs], axis=-1)
        fuse = nn.Conv(self.width, (1,), dtype=self.dtype, name="fuse")
        return _zero(nn.relu(fuse(_zero(joined, valid))), valid)

    def _graph(self, x: Array, valid: Array, kernel: Array) -> Array:
        """Edge convolution of one video on the graph of its own features (Eq. 1)."""
        x = x.astype(jnp.float32)  # the choice of neighbours must not depend on rounding
        neighbours = nearest_neighbours(jax.lax.stop_gradient(x), self.neighbours, valid)
        return edge_convolution(
            x, neighbours, kernel, aggregate=self.aggregate, valid=valid[neighbours]
        )


class MaskedBatchNorm(nn.Module):
    """BatchNorm over the valid nodes of the whole batch on all devices, in float32.

    Flax's own averages the devices' means, which is biased where they hold different numbers of
    valid nodes.
    """

    axis_name: str | None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Nodes, valid: Valid, train: bool) -> Nodes:
        """Normalised nodes; in training the running statistics move along."""
        channels = x.shape[-1]
        x = x.astype(jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if train:
            weight = valid.astype(jnp.float32)
            count = jnp.maximum(self._total(jnp.sum(weight)), 1.0)
            batch_mean = self._total(jnp.einsum("bn,bnc->c", weight, x)) / count
            centred = x - batch_mean
            batch_var = self._total(jnp.einsum("bn,bnc->c", weight, centred**2)) / count
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
                var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
        else:
            batch_mean, batch_var = mean.value, var.value
            centred = x - batch_mean
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return centred * (jax.lax.rsqrt(batch_var + self.epsilon) * scale) + bias

    def _total(self, x: Array) -> Array:
        if self.axis_name is None or self.is_initializing():
            return x
        return jax.lax.psum(x, self.axis_name)


def _valid(nodes: int, stride: int, num_frames: Int[Array, " b"]) -> Valid:
    """Which nodes sit on a real frame."""
    return jnp.arange(nodes) * stride < num_frames[:, None]


def _zero(x: Nodes, valid: Valid) -> Nodes:
    return jnp.where(valid[..., None], x, 0)


def _upsample(x: Nodes, factor: int, valid: Valid) -> Float[Array, "b n*{factor} C"]:
    """Linear interpolation at coordinates t / factor, clamped at the last real node.

    Between two nodes lie `factor` outputs with the same two sources: no gather is needed.
    """
    if factor == 1:
        return x
    following = jnp.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    follows = jnp.concatenate([valid[:, 1:], jnp.zeros_like(valid[:, :1])], axis=1)
    following = jnp.where(follows[..., None], following, x)
    part = (jnp.arange(factor, dtype=x.dtype) / factor)[:, None]
    steps = x[:, :, None] * (1 - part) + following[:, :, None] * part  # [b, n, factor, C]
    return steps.reshape(x.shape[0], -1, x.shape[2])
