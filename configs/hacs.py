"""HACS segments 1.1.1 with the official I3D features at 2 frames per second, resized to T = 400.

    python -m segtad_jax.prepare --name=hacs --features=DIR --output=data --num_frames=400 \
        --annotations=HACS_segments_v1.1.1.json
    python -m segtad_jax.main --config configs/hacs.py --workdir runs/hacs

docs/data.md says where the features and annotations come from.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """`argument`: switches separated by commas, see `segtad_jax.config`."""
    config = default()
    config.data.dir = "data/hacs_linear400/1.0.0"
    config.data.num_frames = 400  # section 4.1
    config.data.num_channels = 2048
    config.data.num_classes = 200
    config.optim.learning_rate = 2e-3  # section 4.1
    config.train.steps = 17640  # 15 epochs of 37,613 videos, 32 at once (section 4.1)
    config.train.eval_every = 1200
    config.train.save_every = 600
    return with_arguments(config, argument)
