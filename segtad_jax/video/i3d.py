"""The I3D network on RGB: a recording at once or as a stream, for accelerators and for CPUs.

Carreira and Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset (2017).
Names are those of google-deepmind/kinetics-i3d. Arrays are [t, h, w, C]: one recording, no batch.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Int, UInt8

from segtad_jax.video import weights as files
from segtad_jax.video.backbones import Backbone, Frames, Stream

STRIDE = 8  # frames a feature
CONTEXT = 48  # frames to either side that a feature depends on
CHANNELS = 1024
SIZES = range(32, 1025)  # pixels
BUCKET = 64  # frames: recordings that are short are filled up to a multiple, for few programs

Maps = Float[Array, "_t _h _w _C"]
Time = Int[Array, ""] | int
Sides = tuple[int, int, int]  # of time, height and width

LOGITS = "Logits_Conv3d_0c_1x1"

# Channels of an Inception module: branch 0; 1, reduced and 3x3x3; 2, the same; 3.
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """How the network is computed.

    Attributes:
        folded: the taps in time are stacked in the channels of a 2-D convolution, and maxima are
            taken axis by axis: on a CPU more than twice as fast as 3-D convolutions and windows.
        stream: frames come in parts, and each layer keeps those before that it still needs.
        dtype: of convolutions and what they return.
    """

    folded: bool
    stream: bool = False
    dtype: Any = jnp.float32


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A part of a recording within the network; of all of it, where there is no stream.

    Attributes:
        maps: of consecutive times.
        time: that of the first map, as if no layer were late.
        end: times of the recording; maps from there on are no part of it.
        late: how many times earlier the maps are than `time` says, as what comes next was missing.
    """

    maps: Maps
    time: Time
    end: Time
    late: int = 0


class Around(nn.Module):
    """Adds the maps before and after that a window in time needs, zeros outside of the recording.

    In a stream those before are kept, and those after are waited for: what is made of the result
    by the window is that much later, and begins `late` before its time.
    """

    variant: Variant
    window: int
    stride: int = 1

    @nn.compact
    def __call__(self, excerpt: Excerpt) -> Excerpt:
        """Returns t - stride + window maps, of which the window makes t / stride.

        `time`, `end` and `late` are those of what the window makes.
        """
        k, s, t = self.window, self.stride, len(excerpt.maps)
        times = excerpt.time - excerpt.late + jnp.arange(t)
        inside = (times >= 0) & (times < excerpt.end)
        maps = jnp.where(inside[:, None, None, None], excerpt.maps, 0)
        before = (k - s) // 2  # of an even number of frames, as TensorFlow pads
        if not self.variant.stream:
            maps = jnp.pad(maps, ((before, k - s - before), (0, 0), (0, 0), (0, 0)))
            return Excerpt(maps, excerpt.time // s, excerpt.end // s)
        late = -(-(excerpt.late + k - before) // s) - 1
        shape = (s * late + before - excerpt.late, *maps.shape[1:])
        kept = self.variable("kept", "maps", jnp.zeros, shape, maps.dtype)
        maps = jnp.concatenate([kept.value, maps])
        kept.value = maps[t:]
        return Excerpt(maps[: t - s + k], excerpt.time // s, excerpt.end // s, late)


class Unit(nn.Module):
    """A convolution, its BatchNorm folded into kernel and bias, and ReLU."""

    variant: Variant
    features: int
    window: Sides = (1, 1, 1)
    stride: int = 1

    @nn.compact
    def __call__(self, excerpt: Excerpt) -> Excerpt:
        """Returns features of every `stride`-th map and place."""
        if self.window[0] > 1:
            excerpt = Around(self.variant, self.window[0], self.stride, name="around")(excerpt)
        shape = (*self.window, excerpt.maps.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        convolve = _convolve_folded if self.variant.folded else _convolve
        maps = convolve(excerpt.maps, kernel.astype(self.variant.dtype), self.stride)
        return dataclasses.replace(excerpt, maps=nn.relu(maps + bias.astype(self.variant.dtype)))


class Mixed(nn.Module):
    """An Inception module: four branches whose channels are joined."""

    variant: Variant
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, excerpt: Excerpt) -> Excerpt:
        """Returns maps of the same times and places."""
        unit, widths = functools.partial(Unit, self.variant), self.widths
        around = Around(self.variant, 3, name="around")(excerpt)
        same = dataclasses.replace(around, maps=around.maps[1:-1])
        maxima = _pool(self.variant, around.maps, (3, 3, 3), (1, 1, 1))
        pooled = dataclasses.replace(around, maps=maxima)
        branches = [unit(widths[0], name="Branch_0_Conv3d_0a_1x1")(same)]
        for number, (reduced, width) in enumerate((widths[1:3], widths[3:5]), start=1):
            x = unit(reduced, name=f"Branch_{number}_Conv3d_0a_1x1")(excerpt)
            branches.append(unit(width, (3, 3, 3), name=f"Branch_{number}_Conv3d_0b_3x3")(x))
        branches.append(unit(widths[5], name="Branch_3_Conv3d_0b_1x1")(pooled))
        return dataclasses.replace(same, maps=jnp.concatenate([b.maps for b in branches], axis=-1))


class I3D(nn.Module):
    """Features of frames: the mean of Mixed_5c over all places."""

    variant: Variant

    @nn.compact
    def __call__(
        self, frames: UInt8[Array, "n h w 3"], time: Time, end: Time
    ) -> Float[Array, "_ 1024"]:
        """Returns features; n, `time` and `end` are multiples of 8.

        Args:
            frames: RGB.
            time: of the first frame in the recording; 0 unless it is a stream.
            end: frames of the recording; the frames from there on do not count.
        """
        variant = self.variant

        def pool(excerpt: Excerpt, window: Sides, strides: Sides, name: str) -> Excerpt:
            if window[0] > 1:
                excerpt = Around(variant, window[0], strides[0], name=name)(excerpt)
            return dataclasses.replace(excerpt, maps=_pool(variant, excerpt.maps, window, strides))

        maps = frames.astype(jnp.float32) * (2 / 255) - 1
        excerpt = Excerpt(maps.astype(variant.dtype), time, end)
        excerpt = Unit(variant, 64, (7, 7, 7), 2, name="Conv3d_1a_7x7")(excerpt)
        excerpt = pool(excerpt, (1, 3, 3), (1, 2, 2), "MaxPool3d_2a_3x3")
        excerpt = Unit(variant, 64, name="Conv3d_2b_1x1")(excerpt)
        excerpt = Unit(variant, 192, (3, 3, 3), name="Conv3d_2c_3x3")(excerpt)
        excerpt = pool(excerpt, (1, 3, 3), (1, 2, 2), "MaxPool3d_3a_3x3")
        for name, widths in MIXED.items():
            if name == "4b":
                excerpt = pool(excerpt, (3, 3, 3), (2, 2, 2), "MaxPool3d_4a_3x3")
            if name == "5b":
                excerpt = pool(excerpt, (2, 2, 2), (2, 2, 2), "MaxPool3d_5a_2x2")
            excerpt = Mixed(variant, widths, name=f"Mixed_{name}")(excerpt)
        return excerpt.maps.astype(jnp.float32).mean((1, 2))


def create(
    fps: float = 25.0,
    size: int = 224,
    weights: str | None = None,
    *,
    variant: Variant | None = None,
) -> Backbone:
    """Returns I3D, trained on Kinetics-400.

    Args:
        fps: frames a second; it was trained on 25.
        size: pixels; it was trained on 224.
        weights: a file, as `weights.read` takes it.
        variant: by default folded on CPUs, and 3-D convolutions in bfloat16 on accelerators.

    Raises:
        ModuleNotFoundError: there are no weights; says where they come from.
        ValueError: the file of weights is another, or `size` is none that the network takes.
    """
    if size not in SIZES:
        raise ValueError(
            f"--size={size} is not in {SIZES[0]}..{SIZES[-1]}, which I3D takes. It was trained on "
            "224; 112 is a quarter of the pixels, faster and less exact."
        )
    if variant is None:
        on_cpu = jax.default_backend() == "cpu"
        variant = Variant(folded=True) if on_cpu else Variant(folded=False, dtype=jnp.bfloat16)
    frames = 16 if variant.folded else 128  # of a step at 224 pixels; more is no faster
    whole, stream = I3D(variant), I3D(dataclasses.replace(variant, stream=True))
    some = jax.ShapeDtypeStruct((STRIDE, size, size, 3), jnp.uint8)
    shapes = jax.eval_shape(lambda x: stream.init(jax.random.key(0), x, 0, 0), some)
    arrays, digest = files.read(weights)
    _check(arrays, traverse_util.flatten_dict(shapes["params"], sep="/"), weights)
    kernel, bias = arrays.pop(f"{LOGITS}/kernel")[0, 0, 0], arrays.pop(f"{LOGITS}/bias")
    params = jax.device_put(traverse_util.unflatten_dict(arrays, sep="/"))
    passes = jax.jit(lambda params, frames, end: whole.apply({"params": params}, frames, 0, end))

    def apply(frames: Frames) -> Float[Array, "_ 1024"]:
        filled = jnp.pad(frames, ((0, -len(frames) % BUCKET), (0, 0), (0, 0), (0, 0)))
        return passes(params, filled, len(frames))[: len(frames) // STRIDE]

    @functools.partial(jax.jit, donate_argnums=1)
    def advance(params: Any, kept: Any, frames: Frames, time: Time, end: Time) -> Any:
        variables = {"params": params, "kept": kept}
        features, new = stream.apply(variables, frames, time, end, mutable=["kept"])
        return new["kept"], features

    return Backbone(
        name="i3d",
        fps=fps,
        size=size,
        stride=STRIDE,
        context=CONTEXT,
        channels=CHANNELS,
        apply=apply,
        weights=digest,
        classes=_classes(),
        classify=lambda features: features @ kernel + bias,
        stream=Stream(
            create=lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes["kept"]),
            step=functools.partial(advance, params),
            delay=CONTEXT // STRIDE,
            chunk=min(4 * frames, max(1, frames * 224**2 // size**2 // STRIDE) * STRIDE),
        ),
    )


def _check(arrays: files.Weights, network: dict[str, Any], path: str | None) -> None:
    """Raises ValueError unless the arrays are those of the network and of its classifier."""
    expected = {name: array.shape for name, array in network.items()}
    classes = len(_classes())
    expected |= {f"{LOGITS}/kernel": (1, 1, 1, CHANNELS, classes), f"{LOGITS}/bias": (classes,)}
    for name in sorted(arrays.keys() | expected.keys()):
        shape = arrays[name].shape if name in arrays else None
        if shape != expected.get(name):
            raise ValueError(
                f"--weights={path}: the array {name} has the shape {shape}, expected "
                f"{expected.get(name)} (None: no such array). Take names and shapes from the file "
                "that the first use of I3D leaves in ~/.cache/segtad_jax."
            )


def _classes() -> tuple[str, ...]:
    lines = pathlib.Path(__file__).with_name("kinetics_400.txt").read_text().splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def _convolve(maps: Maps, kernel: Float[Array, "k y x C D"], stride: int) -> Maps:
    """Only windows that are whole in time; in space zeros around, as TensorFlow's SAME."""
    strides = (stride,) * 3
    space = jax.lax.padtype_to_pads(maps.shape[1:3], kernel.shape[1:3], strides[1:], "SAME")
    dimensions = ("NDHWC", "DHWIO", "NDHWC")
    return jax.lax.conv_general_dilated(
        maps[None], kernel, strides, [(0, 0), *space], dimension_numbers=dimensions
    )[0]


def _convolve_folded(maps: Maps, kernel: Float[Array, "k y x C D"], stride: int) -> Maps:
    k, y, x, C, D = kernel.shape
    if k == y == x == 1:
        return maps @ kernel[0, 0, 0]
    last = len(maps) - k + 1
    stacked = jnp.concatenate([maps[i : i + last : stride] for i in range(k)], axis=-1)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(y, x, k * C, D)
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        stacked, flat, (stride, stride), "SAME", dimension_numbers=dimensions
    )


def _pool(variant: Variant, maps: Maps, window: Sides, strides: Sides) -> Maps:
    """Maxima, padded as `_convolve` does; zeros will do, since no map is negative after ReLU."""
    space = jax.lax.padtype_to_pads(maps.shape[1:3], window[1:], strides[1:], "SAME")
    pads = [(0, 0), *space, (0, 0)]
    if not variant.folded:
        zero = jnp.zeros((), maps.dtype)
        return jax.lax.reduce_window(maps, zero, jax.lax.max, (*window, 1), (*strides, 1), pads)
    maps = jnp.pad(maps, pads)
    for axis, (k, s) in enumerate(zip(window, strides, strict=True)):
        last = maps.shape[axis] - k + 1
        slices = [jax.lax.slice_in_dim(maps, i, i + last, s, axis) for i in range(k)]
        maps = functools.reduce(jnp.maximum, slices)
    return maps
