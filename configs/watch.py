"""The demo: real smartwatch signals, minutes on a laptop.

The signals are real (PyPI package seglearn, 10 people, 7 shoulder exercises); the continuous
recordings are composed from its trials. 80 recordings of about 112 s, 5 classes, 5 frames per
second; people 1 to 7 train, 8 to 10 validate.

    python -m segtad_jax.main --config configs/watch.py --workdir runs/watch
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.source = "watch"
    config.data.dir = "data"
    config.data.num_frames = 320  # 64 s at 5 frames per second
    config.model.width = 128
    config.model.num_bins = 16
    config.sampling.seeds = 25
    config.augment.noise = 0.3
    # On the other arm acceleration along the forearm, and turning about the two other axes, have
    # the other sign; so have their means, 3 of a frame's 18 statistics, at each of 9 offsets.
    config.augment.mirror = tuple(18 * offset + mean for offset in range(9) for mean in (0, 4, 5))
    config.augment.mix_style = 1.0
    config.augment.mix_concentration = 0.3
    config.loss.snap = 4  # half of model.stride, which is 8 by default
    config.optim.schedule = "cosine"
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 30
    config.train.batch_size = 8
    config.train.steps = 1000
    config.train.eval_every = 200
    config.train.save_every = 100
    config.eval.class_mean = "geometric"
    config.eval.renormalise = True
    config.eval.snap = 4
    config.eval.snap_offset = 0.5
    config.eval.boundary_power = 0.35
    config.eval.sigma = 0.2
    config.eval.max_detections = 300
    return with_arguments(config, argument)
