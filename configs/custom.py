"""Any data set that `segtad_jax.prepare` made: what is left open here is chosen to fit it.

    python -m segtad_jax.main --config configs/custom.py --config.data.dir=DATA --workdir RUN

DATA is what prepare was given as --output, or DATA/NAME/VERSION where that holds several data sets.
T, C and the classes are those that prepare wrote; what is open below `segtad_jax.config.fit`
chooses by stated rules, and prints with its reasons. A field that the command line sets stays as it
is set, and `--config.FIELD=None` opens one. Runs without a fifth of the training recordings come
first, and choose the number of steps and the constants after the network (docs/running.md);
`--config.train.rehearsal=0` saves their time.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.num_frames = placeholder(int)
    config.model.width = placeholder(int)
    config.model.normalise = True
    config.model.stride = placeholder(int)
    config.model.pyramid = placeholder(int)
    config.model.dilations = placeholder(tuple)
    config.model.num_bins = placeholder(int)
    config.sampling.seeds = placeholder(int)
    config.augment.noise = 0.3
    config.augment.mix_style = placeholder(float)
    config.augment.mix_concentration = 0.3
    config.optim.schedule = "cosine"
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 30
    config.train.batch_size = placeholder(int)
    config.train.steps = placeholder(int)
    config.train.even_windows = True
    config.train.rehearsal = 0.2
    config.eval.whole_windows = True
    config.eval.class_mean = placeholder(str)
    config.eval.renormalise = placeholder(bool)
    config.eval.snap = placeholder(int)
    config.eval.snap_mean = placeholder(bool)
    config.eval.snap_offset = placeholder(float)
    config.eval.boundary_power = placeholder(float)
    config.eval.sigma = placeholder(float)
    config.eval.max_detections = 300
    return with_arguments(config, argument)
