"""1D semantic segmentation network (section 3.2): encoder, PAG, decoder and the frame heads.

Arrays are [b, nodes, channels]. Node n of a layer with stride s sits at frame s * n. Frames beyond
a video's `num_frames` are zero after every layer and take no part in any statistic, so that a
padded video gives on its real frames what it gives alone.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from segtad_jax.ops.graph import edge_convolution, nearest_neighbours

Nodes = Float[Array, "b n C"]
Valid = Bool[Array, "b n"]


class SSN(nn.Module):
    """Decodes the features of each frame and classifies frames, starts and ends."""

    config: ConfigDict  # `config.model`
    num_classes: int  # D, without the background
    boundary_bias: float  # initial logit of the start and end heads
    axis_name: str | None  # the device axis over which BatchNorm sums in training

    @nn.compact
    def __call__(
        self, features: Float[Array, "b T C"], num_frames: Int[Array, " b"], train: bool
    ) -> dict[str, Array]:
        """Returns `decoded` [b, T/q, width], q being `config.decoder_stride`, and logits.

        These are `frame_logits` [b, T, D + 1], `start_logits` [b, T] and `end_logits` [b, T].
        """
        config, total = self.config, features.shape[1]
        dense = functools.partial(nn.Dense, dtype=jnp.dtype(config.dtype))
        conv = functools.partial(nn.Conv, config.width, dtype=jnp.dtype(config.dtype))
        conv3 = functools.partial(conv, kernel_size=(3,), padding=((1, 1),))

        def highway(
            x: Float[Array, "b m C"], stride: int, valid: Valid, name: str
        ) -> Float[Array, "b n W"]:
            project = conv(kernel_size=(1,), strides=stride, use_bias=False, name=name)
            norm = MaskedBatchNorm(self.axis_name, name=f"{name}_norm")
            return _zero(nn.relu(norm(project(x), valid, train)), valid)

        valid_at = {s: _valid(total // s, s, num_frames) for s in (1, 2, 4, 8)}  # by stride
        x = frames = _zero(features.astype(config.dtype), valid_at[1])
        encoded = {}
        for i, s in enumerate((2, 4, 8)):
            x = _zero(nn.relu(conv3(strides=2, name=f"encoder_{i}")(x)), valid_at[s])
            encoded[s] = x
        x = PAG(config, self.axis_name, name="pag")(x, valid_at[8], train)

        q = config.decoder_stride
        valid = _valid(total // q, q, num_frames)
        low = highway(encoded[4], 1, valid_at[4], "highway")
        joined = [_upsample(x, 8 // q, valid_at[8]), _upsample(low, 4 // q, valid_at[4])]
        if config.input_highway:
            joined.append(highway(frames, q, valid, "input_highway"))
        x = _zero(jnp.concatenate(joined, axis=-1).astype(config.dtype), valid)
        decoded = _zero(nn.relu(conv3(name="decoder")(x)), valid)

        def to_frames(logits: Nodes) -> Float[Array, "b T C"]:
            """Interpolates logits, not probabilities, to all frames."""
            return _zero(_upsample(logits.astype(jnp.float32), q, valid), valid_at[1])

        def boundary_logits(name: str) -> Float[Array, "b T"]:  # Eq. 6 and 7
            hidden = nn.relu(conv3(name=f"{name}_conv")(decoded))
            bias = nn.initializers.constant(self.boundary_bias)
            return to_frames(dense(1, bias_init=bias, name=name)(hidden))[..., 0]

        segmentation = dense(self.num_classes + 1, name="segmentation")
        return {
            "decoded": decoded,
            "frame_logits": to_frames(segmentation(decoded)),  # Eq. 3
            "start_logits": boundary_logits("start"),
            "end_logits": boundary_logits("end"),
        }


class PAG(nn.Module):
    """Parallel atrous and graph convolutions (Eq. 2); attributes as of `SSN`."""

    config: ConfigDict
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Nodes, valid: Valid, train: bool) -> Nodes:
        """Returns nodes that have seen each other, of as many channels as before."""
        config, width, outputs = self.config, self.config.width, []
        conv = functools.partial(nn.Conv, width, dtype=jnp.dtype(config.dtype))
        if "graph" in config.branches:
            init = nn.initializers.lecun_normal()
            kernel = self.param("graph_kernel", init, (2 * width, width))
            graph = jax.vmap(self._graph, in_axes=(0, 0, None))(x, valid, kernel)
            outputs.append(nn.relu(graph))
        if "atrous" in config.branches:
            for i, dilation in enumerate(config.dilations):
                atrous = conv(
                    kernel_size=(3,),
                    kernel_dilation=dilation,
                    padding=((dilation, dilation),),
                    use_bias=False,  # BatchNorm follows, as in DeepLabV3 (reference 6)
                    name=f"atrous_{i}",
                )
                norm = MaskedBatchNorm(self.axis_name, name=f"atrous_{i}_norm")
                outputs.append(nn.relu(norm(atrous(x), valid, train)))
        if "global" in config.branches:
            count = jnp.maximum(jnp.sum(valid, axis=1), 1)[:, None, None]
            pooled = jnp.sum(x, axis=1, keepdims=True, dtype=jnp.float32) / count
            if config.global_convolution:
                project = conv(kernel_size=(1,), name="global")
                pooled = nn.relu(project(pooled.astype(config.dtype)))
            outputs.append(jnp.broadcast_to(pooled, x.shape))
        joined = jnp.concatenate([y.astype(config.dtype) for y in outputs], axis=-1)
        fuse = conv(kernel_size=(1,), name="fuse")
        return _zero(nn.relu(fuse(_zero(joined, valid))), valid)

    def _graph(self, x: Array, valid: Array, kernel: Array) -> Array:
        """Applies Eq. 1 to one video, on the graph of its own features."""
        x = x.astype(jnp.float32)  # the choice of neighbours must not depend on rounding
        neighbours = nearest_neighbours(
            jax.lax.stop_gradient(x), self.config.snippet_neighbours, valid
        )
        return edge_convolution(
            x, neighbours, kernel, aggregate=self.config.aggregate, valid=valid[neighbours]
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
        """Returns normalised nodes; in training the running statistics move along."""
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
    """Returns which nodes sit on a real frame."""
    return jnp.arange(nodes) * stride < num_frames[:, None]


def _zero(x: Nodes, valid: Valid) -> Nodes:
    return jnp.where(valid[..., None], x, 0)


def _upsample(x: Nodes, factor: int, valid: Valid) -> Float[Array, "b n*{factor} C"]:
    """Interpolates linearly at coordinates t / factor, clamped at the last real node.

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
