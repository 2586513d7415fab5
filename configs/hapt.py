"""HAPT: 6 hours of a phone at the waist, 12 activities and transitions, real and continuous.

    python -m segtad_jax.prepare --recipe=hapt --source=DIR --output=data
    python -m segtad_jax.main --config configs/hapt.py --workdir runs/hapt

docs/data.md says where DIR comes from.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.dir = "data/hapt/1.0.0"
    config.data.num_frames = 320  # 64 s at 5 frames per second
    config.data.num_channels = 162
    config.data.num_classes = 12
    config.model.width = 128
    config.model.num_bins = 16
    config.model.input_highway = True
    config.sampling.seeds = 25
    # Elsewhere at the waist a phone measures y and z of both sensors, the axes across the body,
    # rotated: from recording to recording by 24 degrees (standard deviation, as people lie). So it
    # does their means, 4 of a frame's 18 statistics, at each of 9 offsets.
    config.augment.rotate = tuple(18 * i + mean for i in range(9) for mean in (1, 2, 4, 5))
    config.augment.mix_style = 1.0
    config.augment.mix_concentration = 0.3
    config.augment.masks = 8  # of up to 4 s: what comes before and after says much here
    config.loss.snap = 4  # half of the grid's stride
    config.loss.positive_tiou = 0.7  # snapped, most that overlap an action are above 0.5
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
    config.eval.snap_mean = True  # annotated by eye, to about two frames
    config.eval.snap_offset = 0.5
    config.eval.boundary_power = 0.35
    config.eval.max_detections = 300
    return with_arguments(config, argument)
