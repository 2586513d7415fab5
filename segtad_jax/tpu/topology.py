"""TPU slices that one does not own: the data of their chips, and devices to compile for.

libtpu compiles on machines without a TPU: `pip install 'segtad-jax[tpu]'`.
"""

import os
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

GIB = 1 << 30


class Chip(NamedTuple):
    """Data of one chip; JAX shows each as one device."""

    dimensions: int  # of the torus that its slices are cut from
    hbm_gib: float  # that a program may use
    tflops: float  # peak, bfloat16
    hbm_gb_per_second: float
    config: str  # how libtpu joins the chip's cores


# Peak and bandwidth: "Key specifications" of cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}, which give
# 32 GiB, 16 GB, 95 GB and 32 GB of HBM. A program gets a little less: hbm_gib is what libtpu 0.0.42
# itself states for each when it refuses one ("exceeds available HBM").
CHIPS = {
    "v4": Chip(3, 30.75, 275, 1200, "megacore"),
    "v5e": Chip(2, 15.75, 197, 819, "default"),
    "v5p": Chip(3, 95.74, 459, 2765, "megacore"),
    "v6e": Chip(2, 31.25, 918, 1638, "default"),
}

# Otherwise libtpu asks the metadata server of Google's machines, for minutes, who it is, and lets
# one process at a time in, as if all wanted the chips. None of these says what is compiled for.
NO_TPU_HERE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


class Slice(NamedTuple):
    """A slice as its name says: `v5e:4x4`."""

    name: str
    chip: Chip
    shape: tuple[int, ...]


def parse(name: str) -> Slice:
    """Reads `FAMILY:AxB` or `FAMILY:AxBxC`.

    Raises:
        ValueError: not of this form, an unknown family, or the wrong number of dimensions.
    """
    match = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*)*)", name)
    if not match:
        raise ValueError(
            f"--topology={name} is not FAMILY:SHAPE, such as v5e:4x4 or v5p:2x2x2; this is not "
            "the accelerator type (v5litepod-16)."
        )
    family, shape = match[1], tuple(int(n) for n in match[2].split("x"))
    if family not in CHIPS:
        raise ValueError(
            f"--topology={name}: unknown family '{family}'; known: {', '.join(CHIPS)}."
        )
    chip = CHIPS[family]
    if len(shape) != chip.dimensions:
        example = "x".join("2" * chip.dimensions)
        raise ValueError(
            f"--topology={name}: slices of {family} have {chip.dimensions} dimensions, such as "
            f"{family}:{example}."
        )
    return Slice(name, chip, shape)


def devices(wanted: Slice) -> list[jax.Device]:
    """Returns the devices of a slice, which programs can be compiled for but not run on.

    Raises:
        ValueError: libtpu is not installed, or refuses the slice.
    """
    os.environ.update(NO_TPU_HERE)
    per_host = tuple(min(n, 2) for n in (*wanted.shape, 1, 1)[:3])  # 1x1 is a slice, too
    try:
        description = topologies.get_topology_desc(
            platform="tpu",
            topology_name=wanted.name,
            chip_config_name=wanted.chip.config,
            chips_per_host_bounds=per_host,
        )
    except RuntimeError as error:
        if "TPU support not installed" in str(error):
            raise ValueError(
                "--mode=compile needs libtpu, the TPU's compiler, on this machine (no TPU): "
                "pip install 'segtad-jax[tpu]', or pip install 'jax[tpu]' beside it."
            ) from error
        raise ValueError(f"--topology={wanted.name}: {str(error).splitlines()[0]}") from error
    return list(description.devices)
