"""Builds the folder of an exported model: function, parameters, description, example."""

import json
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from segtad_jax import __version__
from segtad_jax.config.defaults import flatten
from segtad_jax.data.pipeline import inference_step
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.ops.nms import LANES
from segtad_jax.ops.videos import over_videos
from segtad_jax.postprocess import Candidates, Selected, finite, process_batch, select
from segtad_jax.predict.inputs import RATE_TOLERANCE
from segtad_jax.predict.trained import Trained, load
from segtad_jax.runtime.files import on_object_store

# Modules of the package that run.py needs, of which it gets copies: they import NumPy alone.
COPIED = ("resizing.py", "signals.py")
FUNCTION, PARAMETERS = "predict.jax_export", "model.safetensors"
INPUTS = ("features", "num_frames", "offset")
OUTPUTS = ("scores", "segments", "labels")
Detections = tuple[Float[Array, "r R"], Float[Array, "r R 2"], Int[Array, "r R"]]
CLASSES = {  # of the README, by whether the labels are the classes
    True: "",
    False: """
The detections are of any action, all with the label 0: give them the best classes that another
classifier finds in their recording, and multiply the scores (`classes` of model.json names all).
""",
}


def write(checkpoint: str, output: epath.PathLike, platforms: Sequence[str]) -> epath.Path:
    """Writes the folder, whole or not at all, and prints the sizes of its files.

    On an object store, where nothing can be renamed, model.json comes last: without it the folder
    is that of an export which was killed.

    Args:
        checkpoint: RUN or RUN/STEP.
        output: a folder that is not there, or is empty.
        platforms: to lower for; no such device is needed.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it does not read, or the output is there.
    """
    output = epath.Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there already; remove it, or give another --output")
    model = load(checkpoint)
    print(f"lowering step {model.step} of {checkpoint} for {', '.join(platforms)} ...")
    exported = lower(model, platforms)
    description = describe(model, exported)
    files: dict[str, bytes] = {
        FUNCTION: bytes(exported.serialize()),
        PARAMETERS: to_safetensors(model),
        "README.md": _readme(description).encode(),
        "run.py": _without_package("export/artifact/run.py").encode(),
        **{name: _without_package(f"data/{name}").encode() for name in COPIED},
        "model.json": (json.dumps(description, indent=1) + "\n").encode(),
    }
    in_place = on_object_store(output)
    folder = output if in_place else output.with_name(f".{output.name}.{uuid.uuid4().hex}")
    folder.mkdir(parents=True, exist_ok=in_place)
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if not in_place:
            if output.exists():
                output.rmdir()
            folder.rename(output)
    except BaseException:
        folder.rmtree(missing_ok=True)
        raise
    for name, content in files.items():
        print(f"{len(content) / 1e6:10.2f} MB  {output / name}")
    return output


def lower(model: Trained, platforms: Sequence[str]) -> jax.export.Exported:
    """Lowers inference for these platforms; r recordings of w windows each are symbolic sizes.

    The parameters are constants of it: one file that cannot be joined with another's parameters.
    """
    r, w = jax.export.symbolic_shape("r, w")
    window = (model.config.data.num_frames, model.num_channels)
    features = jax.ShapeDtypeStruct((r, w, *window), jnp.float32)
    frames = jax.ShapeDtypeStruct((r, w), jnp.int32)
    export = jax.export.export(jax.jit(inference(model)), platforms=list(platforms))
    return export(features, frames, frames)


def inference(model: Trained) -> Callable[..., Detections]:
    """Returns a function (features [r, w, T, C], num_frames [r, w], offset [r, w]) -> Detections.

    These are what `Detector.detect` finds, in frames, in one program on the device also where
    recordings have several windows; their labels are indices into `labels(model)`. All scores of a
    recording are NaN where the network makes NaN or infinity of it.
    """
    config, settings = model.config, model.config.eval
    network = SegTAD(config, len(model.classes))
    constants, total = grid(config), config.data.num_frames
    variables = jax.tree.map(jnp.asarray, model.variables)

    def pooled(windows: Candidates, offset: Int[Array, " w"]) -> Selected:
        scores, moved = windows  # [w, D, M], [w, M, 2]
        moved += offset[:, None, None].astype(moved.dtype)
        # Soft-NMS needs a multiple of LANES, which is not known of a symbolic size.
        missing = -moved.shape[1] % LANES
        moved = jnp.pad(moved, ((0, 0), (0, missing), (0, 0)))
        scores = jnp.pad(scores, ((0, 0), (0, 0), (0, missing)), constant_values=-jnp.inf)
        together = jnp.moveaxis(scores, 0, 1).reshape(scores.shape[1], -1)  # [D, w * M]
        return select(Candidates(together, moved.reshape(-1, 2)), settings)

    def detect(
        features: Float[Array, "r w T C"], num_frames: Int[Array, "r w"], offset: Int[Array, "r w"]
    ) -> Detections:
        end = jnp.max(offset + num_frames, axis=1, keepdims=True)
        cut = jnp.stack([offset > 0, offset + total < end], axis=-1)
        # All windows are one batch, of which every platform makes what it is fast at.
        batch, frames = features.reshape(-1, *features.shape[2:]), num_frames.reshape(-1)
        outputs: Any = network.apply(variables, batch, frames)
        windows: Any = process_batch(
            *(outputs, constants.segments, frames, cut.reshape(-1, 2), settings, False),
            scales=constants.scales,
        )
        windows = jax.tree.map(lambda x: x.reshape(*offset.shape, *x.shape[1:]), windows)
        selected = over_videos(pooled, windows, offset)
        usable = jnp.all(finite(outputs).reshape(offset.shape), axis=1, keepdims=True)
        return jnp.where(usable, selected.scores, jnp.nan), selected.segments, selected.labels

    return detect


def labels(model: Trained) -> list[str]:
    """Returns the names of the function's labels: the classes, or a single "action"."""
    return ["action"] if model.config.eval.class_scores else list(model.classes)


def to_safetensors(model: Trained) -> bytes:
    """Serialises parameters and BatchNorm statistics, named by path: params/pdn/scores_bias."""
    leaves = flatten_dict(model.variables, sep="/")
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    metadata = {
        "made_by": f"segtad_jax {__version__}",
        "step": str(model.step),
        "classes": json.dumps(model.classes),
        "channels": str(model.num_channels),
        "num_frames": str(model.config.data.num_frames),
        "config": json.dumps(flatten(model.config)),
    }
    return safetensors.numpy.save(arrays, metadata)


def describe(model: Trained, exported: jax.export.Exported) -> dict[str, Any]:
    """Returns the content of model.json."""
    config, rates = model.config, model.preparation.trained_rates
    same = rates is not None and rates[1] <= (1 + RATE_TOLERANCE) * rates[0]
    return {
        "made_by": f"segtad_jax {__version__}",
        "jax": jax.__version__,
        "step": model.step,
        "function": {
            "file": FUNCTION,
            "platforms": list(exported.platforms),
            "dimensions": {"r": "recordings", "w": "windows of each"},
            "inputs": _arrays(INPUTS, exported.in_avals),
            "outputs": _arrays(OUTPUTS, exported.out_avals),
        },
        "parameters": {"file": PARAMETERS},
        "labels": labels(model),
        "classes": list(model.classes),
        # From which score detections count, and what scores mean as probabilities, [score, share]
        # with straight lines between; null where the run has none, or the labels no class.
        "thresholds": None if config.eval.class_scores else model.thresholds,
        "confidence": None if config.eval.class_scores else model.confidence,
        "channels": model.num_channels,
        "windows": {
            "frames": config.data.num_frames,
            "step": inference_step(config.data.num_frames, config.eval.window_overlap),
            "whole": config.eval.whole_windows,  # the last one starts `frames` before the end
        },
        # Of what was recorded, in Hz: the one, and the least and greatest; null: any will do.
        "rate": sum(rates) / 2 if rates and same else None,
        "rates": rates,
        "preparation": model.preparation.to_json(),
        "config": flatten(config),
    }


def _arrays(names: Sequence[str], avals: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": [size if isinstance(size, int) else str(size) for size in aval.shape],
            "dtype": str(aval.dtype),
        }
        for name, aval in zip(names, avals, strict=True)
    ]


def _readme(description: Mapping[str, Any]) -> str:
    outputs = {array["name"]: array["shape"] for array in description["function"]["outputs"]}
    return string.Template(_resource("export/artifact/README.md")).substitute(
        version=__version__,
        jax=description["jax"],
        step=description["step"],
        platforms=", ".join(description["function"]["platforms"]),
        frames=description["windows"]["frames"],
        every=description["windows"]["step"],
        channels=description["channels"],
        what=_recorded(description),
        detections=outputs["scores"][1],
        classes=CLASSES[description["labels"] == description["classes"]],
    )


def _recorded(description: Mapping[str, Any]) -> str:
    """Returns the words for what the model takes from a user."""
    preparation, rate = description["preparation"], description["rate"]
    widths = " and ".join(f"[frames, {width}]" for width in preparation["widths"])
    kind = "raw samples" if preparation["signals"] else "features"
    return f"{kind}, {widths}" + (f" ({rate:g} Hz in training)" if rate else "")


def _resource(path: str) -> str:
    return (epath.resource_path("segtad_jax") / path).read_text()


def _without_package(path: str) -> str:
    """Returns a module of the package as it runs beside the others, with NumPy and JAX alone."""
    source = _resource(path).replace("from segtad_jax.data.", "from ")
    # `Annotated` takes what `Float` does: an array's type, and its shape.
    return source.replace("from jaxtyping import Float", "from typing import Annotated as Float")
