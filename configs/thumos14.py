"""THUMOS14 with I3D features, a frame every 4 video frames, in windows of T = 256.

    python -m segtad_jax.prepare --name=thumos14 --features=DIR --rate=7.5 --window=256 \
        --annotations=thumos_gt.json --blocked=thumos14_blocked.txt --output=data
    python -m segtad_jax.main --config configs/thumos14.py --workdir runs/thumos14

The 200 annotated validation videos train, the test videos are scored: in the data set these are the
splits training and testing. docs/data.md says where the features and annotations come from.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.dir = "data/thumos14/1.0.0"
    config.data.num_frames = 256
    config.data.num_channels = 2048
    config.data.num_classes = 20
    config.data.eval_split = "testing"
    config.model.stride = 4  # half of the actions are shorter than 3 s, 22 frames
    config.model.dilations = (1, 2, 4, 6)  # 256 frames are 32 encoded nodes
    config.optim.schedule = "cosine"
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100
    config.train.batch_size = 16
    config.train.steps = 4000
    config.train.eval_every = 500
    config.train.save_every = 500
    return with_arguments(config, argument)
