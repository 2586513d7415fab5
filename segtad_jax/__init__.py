"""SegTAD: temporal action detection as semantic segmentation, in JAX and Flax."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segtad_jax.predict.trained import Trained

__version__ = "0.1.0"


def load(checkpoint: str) -> "Trained":
    """Returns a trained model: its `detect(features, rate=...)` gives the actions of a recording.

    Args:
        checkpoint: RUN or RUN/STEP, where RUN is the --workdir of a training.
    """
    from segtad_jax.predict.trained import load as load_trained

    return load_trained(checkpoint)
