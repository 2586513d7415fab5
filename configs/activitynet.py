"""ActivityNet-1.3 with two-stream TSN features at 5 frames per second, resized to T = 1000.

    python -m segtad_jax.prepare --name=activitynet --features=RGB,FLOW --output=data \
        --annotations=anet_anno_action.json,video_info_new.csv --num_frames=1000
    python -m segtad_jax.main --config configs/activitynet.py --workdir runs/activitynet

docs/data.md says where the features and annotations come from.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """`argument`: switches separated by commas, see `segtad_jax.config`."""
    config = default()
    config.data.dir = "data/activitynet_linear1000/1.0.0"
    config.data.num_frames = 1000  # section 4.1
    config.data.num_channels = 400  # 200 of RGB, 200 of optical flow
    config.data.num_classes = 200
    config.train.steps = 4530  # 15 epochs of 9,649 videos, 32 at once (section 4.1)
    config.train.eval_every = 300
    config.train.save_every = 300
    return with_arguments(config, argument)
