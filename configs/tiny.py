"""Synthetic recordings, seconds: what tests and first trials use.

python -m segtad_jax.main --config configs/tiny.py --workdir runs/tiny
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.source = "synthetic"
    config.data.dir = "data"
    config.data.num_frames = 64
    config.model.width = 32
    config.model.num_bins = 8
    config.model.stride = 4
    config.model.dilations = (1, 2, 3, 4)  # 64 frames are 8 encoded nodes
    config.sampling.seeds = 16
    config.optim.schedule = "cosine"
    config.optim.learning_rate = 3e-3
    config.optim.warmup_steps = 20
    config.train.batch_size = 16
    config.train.steps = 200
    config.train.eval_every = 100
    config.train.save_every = 100
    config.eval.max_detections = 50
    return with_arguments(config, argument)
