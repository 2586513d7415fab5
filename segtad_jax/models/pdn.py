"""Proposal detection network (section 3.3): three edge convolutions and two scores.

Written for the proposals of one video; SegTAD vmaps it.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from segtad_jax.ops.graph import cosine_attention, edge_convolution
from segtad_jax.ops.videos import over_videos


class PDN(nn.Module):
    """Features of proposals and their graph -> logits of the two scores of Eq. 9.

    Call:
        features [b, n, width], neighbours [n, K] or [b, n, K] as rows of features, valid [b, n]
        -> [b, n, 2]: channel 0 regresses the tIoU, channel 1 classifies.

    A proposal that is not valid counts as no neighbour (its entry of A is 0).
    """

    width: int
    num_layers: int
    aggregate: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "b n C"],
        neighbours: Int[Array, "*b n K"],
        valid: Bool[Array, "b n"],
    ) -> Float[Array, "b n 2"]:
        """See the class."""
        shared = neighbours.ndim == 2  # of the whole grid: the same for all videos
        kernels = [
            self.param(
                f"edge_{layer}_kernel",
                nn.initializers.lecun_normal(),
                (2 * (self.width if layer else features.shape[-1]), self.width),
            )
            for layer in range(self.num_layers)
        ]

        def layers(x: Array, valid: Array, own: Array | None) -> Array:
            for kernel in kernels:
                x = self._layer(x, neighbours if own is None else own, valid, kernel)
            return x

        x = over_videos(layers, features, valid, None if shared else neighbours)
        return nn.Dense(2, dtype=self.dtype, name="scores")(x).astype(jnp.float32)

    def _layer(self, x: Array, neighbours: Array, valid: Array, kernel: Array) -> Array:
        """Eq. 1 with the cosine of the layer's own input as the entries of A."""
        attention = cosine_attention(x.astype(jnp.float32), neighbours)
        y = edge_convolution(
            x.astype(self.dtype),
            neighbours,
            kernel.astype(self.dtype),
            weights=attention.astype(self.dtype),
            aggregate=self.aggregate,
            valid=valid[neighbours],
        )
        return jnp.where(valid[:, None], nn.relu(y), 0)
