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
CLIPS = {  # by name: that of the authors, the frames that it sees together, channels
    "videoprism-b": ("videoprism_public_v1_base", 16, 768),
    "videoprism-l": ("videoprism_public_v1_large", 8, 1024),
}


def create(
    name: str, fps: float | None = None, size: int = SIZE, weights: str | None = None
) -> Backbone:
    """Returns VideoPrism: a feature of each clip, the mean over its frames and places.

    Args:
        name: one of `CLIPS`.
        fps: frames a second; by default so many that a clip is 0.64 s, as 16 frames at 25.
        size: the network takes no other.
        weights: a file of the authors; by default their package downloads it.

    Raises:
        ModuleNotFoundError: the authors' package is not installed; says what to type.
        ValueError: `size` is another.
    """
    if size != SIZE:
        raise ValueError(f"--size={size}: {name} takes {SIZE} pixels only; leave --size out.")
    try:
        from videoprism import models
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--backbone={name} needs the package of its authors ({error}). Type: pip install "
            "'videoprism @ git+https://github.com/google-deepmind/videoprism.git'"
        ) from error
    model, clip, channels = CLIPS[name]
    network = models.MODELS[model]()
    variables = jax.device_put(models.load_pretrained_weights(model, weights))

    @jax.jit
    def passes(variables: Any, frames: Frames) -> Float[Array, "n/clip channels"]:
        clips = frames.reshape(-1, clip, SIZE, SIZE, 3).astype(jnp.float32) / 255
        embeddings, _ = network.apply(variables, clips, train=False)  # [clips, frames places, C]
        return embeddings.astype(jnp.float32).mean(1)

    return Backbone(
        name=name,
        fps=fps or clip / 0.64,
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
