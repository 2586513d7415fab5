"""TensorFlow writes files here and nothing else: the accelerators are JAX's."""

import contextlib
from typing import Any


def tensorflow_on_cpu() -> Any:
    """Imports TensorFlow, which takes seconds, and hides all accelerators from it.

    It would take the memory of every GPU that it sees, at the first operation.
    """
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        # Where the caller's own program has used TensorFlow before, it is too late.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], kind)
    return tf
