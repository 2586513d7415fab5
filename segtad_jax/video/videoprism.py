"""VideoPrism, as its authors' package that the user has installed makes it.

Zhao et al., VideoPrism: A Foundational Visual Encoder for Video Understanding (2024).
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from segtad_jax.video.backbones import Backbone, Frames

SIZE = 288  # pixels


def create_base(fps: float = 25.0, size: int = SIZE, weights: str | None = None) -> Backbone:
    """Returns VideoPrism-B, a feature of 16 frames; for the rest see `_create`."""
    return _create("videoprism_public_v1_base", 16, 768, fps, size, weights)


def create_large(fps: float = 12.5, size: int = SIZE, weights: str | None = None) -> Backbone:
    """Returns VideoPrism-L, a feature of 8 frames; for the rest see `_create`."""
    return _create("videoprism_public_v1_large", 8, 1024, fps, size, weights)


def _create(
    model: str, clip: int, channels: int, fps: float, size: int, weights: str | None
) -> Backbone:
    """Returns VideoPrism: a feature of each clip, the mean over its frames and places.

    Args:
        model: its name in the authors' package.
        clip: frames that it sees together.
        channels: of a feature.
        fps: frames a second.
        size: the network takes no other than `SIZE`.
        weights: a file of the authors; by default their package downloads it.

    Raises:
        ModuleNotFoundError: the authors' package is not installed; says what to type.
        ValueError: `size` is another.
    """
    if size != SIZE:
        raise ValueError(f"--size={size}: VideoPrism takes {SIZE} pixels only. Leave --size out.")
    try:
        from videoprism import models
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"VideoPrism needs the package of its authors ({error}). Type: pip install "
            "'videoprism @ git+https://github.com/google-deepmind/videoprism.git'"
        ) from error
    network = models.MODELS[model]()
    variables = jax.device_put(models.load_pretrained_weights(model, weights))

    @jax.jit
    def passes(variables: Any, frames: Frames) -> Float[Array, "_ channels"]:
        clips = frames.reshape(-1, clip, SIZE, SIZE, 3).astype(jnp.float32) / 255
        embeddings, _ = network.apply(variables, clips, train=False)  # [clips, frames places, C]
        return embeddings.astype(jnp.float32).mean(1)

    return Backbone(
        name=model,
        fps=fps,
        size=SIZE,
        stride=clip,
        context=0,
        channels=channels,
        apply=lambda frames: passes(variables, frames),
        weights=_digest(variables),
    )


def _digest(variables: Any) -> str:
    digest = hashlib.sha256()
    for path, array in jax.tree.leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
