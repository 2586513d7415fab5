"""ActivityNet-1.3 with two-stream TSN features at 5 frames per second, resized to T = 1000.

    python -m segtad_jax.prepare --name=activitynet --features=RGB,FLOW --output=data \
        --annotations=anet_anno_action.json,video_info_new.csv --num_frames=1000 --resize=linear
    python -m segtad_jax.main --config configs/activitynet.py --workdir runs/activitynet \
        --config.eval.class_scores=FILE --config.eval.sigma=0.85 --config.eval.top_classes=1

docs/data.md says where the features and annotations come from. FILE holds the video-level scores of
UntrimmedNets, as the paper has them (docs/evaluation.md); another file, or top-2, is scored without
training again: `--mode=evaluate --checkpoint=runs/activitynet` with another --workdir. Behind the
colon, `:paper` takes every open question literally, `:ablation=NAME` is a row of Tables 3 to 8.

The paper (Table 1), mAP in percent on the validation split:

    | classes | 0.5   | 0.75  | 0.95 | average |
    | top-1   | 49.86 | 34.37 | 6.50 | 33.53   |
    | top-2   | 50.52 | 34.76 | 6.85 | 33.99   |

We have not been able to run it: the features cannot be had where this was written.

To expect: on a slice v5e:2x4 less than half a GiB of each chip (the compiler's figure,
docs/tpu.md), and the 144,960 windows of 15 epochs as fast as the hosts read them, minutes on paper.
On two cores of a CPU a step of 4 windows took 0.6 s, and of 16 windows 2.3 s and 1.6 GB
(docs/performance.md): six hours for all of it.
"""

from ml_collections import ConfigDict

from segtad_jax.config import default, with_arguments


def get_config(argument: str = "") -> ConfigDict:
    """Returns the config; `argument` has its switches, see `segtad_jax.config.defaults`."""
    config = default()
    config.data.dir = "data/activitynet_linear1000/1.0.0"
    config.data.num_frames = 1000  # section 4.1
    config.data.num_channels = 400  # 200 of RGB, 200 of optical flow
    config.data.num_classes = 200
    config.train.steps = 4530  # 15 epochs of 9,649 videos, 32 at once (section 4.1)
    config.train.eval_every = 300
    config.train.save_every = 300
    return with_arguments(config, argument)
