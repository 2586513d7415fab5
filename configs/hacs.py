"""HACS segments 1.1.1 with the official I3D features at 2 frames per second, resized to T = 400.

    python -m segtad_jax.prepare --name=hacs --features=DIR --output=data --num_frames=400 \
        --resize=linear --annotations=HACS_segments_v1.1.1.json --blocked=blocked.txt
    python -m segtad_jax.main --config configs/hacs.py --workdir runs/hacs \
        --config.eval.class_scores=FILE --config.eval.sigma=0.85

docs/data.md says where the features and annotations come from. FILE holds the video-level scores of
TSM, as the paper has them (docs/evaluation.md), of which the top 1 or, by default, 2 classes count
(`--config.eval.top_classes`); the paper does not say which its table is of. Behind the colon,
`:paper` takes every open question literally, `:ablation=NAME` is a row of Tables 3 to 8.

The paper (Table 2), mAP in percent:

    | split      | 0.5   | 0.75  | 0.95 | average |
    | validation | 43.33 | 29.65 | 6.23 | 29.24   |
    | test       |       |       |      | 28.90   |

We have not been able to run it: the features cannot be had where this was written.

To expect: on a slice v5e:2x4 less than half a GiB of each chip (the compiler's figure,
docs/tpu.md), and the 564,480 windows of 15 epochs, 1.6 MB each, as fast as the hosts read them: a
quarter of an hour on paper. On two cores of a CPU a step of 4 windows took 0.4 s
(docs/performance.md): sixteen hours.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
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
