"""SegTAD: temporal action detection as semantic segmentation, in JAX and Flax."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segtad_jax.predict.trained import Trained

__version__ = "0.1.0"


def load(checkpoint: str, **settings: Any) -> "Trained":
    """Returns a trained model: its `detect(features, rate=...)` gives the actions of a recording.

    Args:
        checkpoint: RUN or RUN/STEP, where RUN is the --workdir of a training.
        **settings: of `config.eval` that differ from the run's, as max_detections=50.

    Raises:
        FileNotFoundError: no such checkpoint; says which there are.
        ValueError: the folder is no run of this version, or a setting cannot be.
    """
    from segtad_jax.predict.trained import load as load_trained

    return load_trained(checkpoint, **settings)
