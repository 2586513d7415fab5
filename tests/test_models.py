"""The network: shapes, padding rules, gradients. Its values: test_network_twin.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from segtad_jax.config.check import check
from segtad_jax.config.defaults import default, with_arguments
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.models.ssn import MaskedBatchNorm, _upsample

CHANNELS, CLASSES = 6, 3


def small_config(argument: str = "", **fields: object) -> ConfigDict:
    config = default()
    config.data.num_frames = 64
    config.model.width = 8
    config.model.num_bins = 8
    config.model.dilations = (1, 2)
    config.model.stride = 4
    config = with_arguments(config, argument)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    check(config)
    return config


def random_batch(frames: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, frames, CHANNELS)).astype(np.float32)


def build(config: ConfigDict) -> tuple[SegTAD, dict]:
    model = SegTAD(config, CLASSES)
    frames = config.data.num_frames
    variables = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, frames, CHANNELS)), jnp.full(1, frames)
    )
    random = np.random.default_rng(1)  # statistics and biases are those of a trained model

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        around = 1.0 if path[-1].key in ("scale", "var") else 0.05
        spread = np.sqrt(1 / np.prod(leaf.shape[:-1])) if "kernel" in path[-1].key else 0.05
        return jnp.float32(around + spread * random.normal(size=leaf.shape))

    return model, jax.tree_util.tree_map_with_path(draw, variables)


def apply(model: SegTAD, *args: object, **kwargs: object) -> object:
    return jax.jit(functools.partial(model.apply, **kwargs))(*args)


@pytest.mark.slow
def test_shapes_and_jit() -> None:
    config = small_config(model__classifier=True)
    model, variables = build(config)
    features, num_frames, m = random_batch(64), np.array([64, 40]), 16 * 17 // 2
    assert len(grid(config).segments) == m
    compiled = apply(model, variables, features, num_frames)
    assert {name: value.shape for name, value in compiled.items()} == {
        "frame_logits": (2, 64, CLASSES + 1),
        "class_logits": (2, 64, CLASSES + 1),
        "start_logits": (2, 64),
        "end_logits": (2, 64),
        "proposal_logits": (2, m, 2),
        "proposals": (2, m),
    }
    plain = model.apply(variables, features, num_frames)
    for name, value in plain.items():
        np.testing.assert_allclose(value, compiled[name], atol=1e-4, rtol=1e-4, err_msg=name)
    seeds, size = np.array([[0, 5, 100], [3, 3, 7]]), grid(config).members.shape[1]
    sampled = jax.eval_shape(model.apply, variables, features, num_frames, seeds)
    assert sampled["proposal_logits"].shape == (2, 3 * size, 2)
    assert sampled["proposals"].shape == (2, 3 * size)


@pytest.mark.parametrize(("argument", "train"), [("", True), ("paper", False)])
def test_padding_changes_nothing_on_real_frames(argument: str, train: bool) -> None:
    """num_frames divisible by 8: the 1D-SSN gives exactly what it gives unpadded."""
    short, long = small_config(argument), small_config(argument, data__num_frames=128)
    model, variables = build(short)
    padded_model = SegTAD(long, CLASSES)
    features = random_batch(64)
    garbage = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    padded = np.concatenate([features, garbage], axis=1)  # what lies beyond must not matter

    seeds = np.zeros((2, 1), int)
    options = {"train": train, "mutable": "batch_stats"}
    plain, stats = apply(model, variables, features, np.full(2, 64), seeds, **options)
    other, padded_stats = apply(padded_model, variables, padded, np.full(2, 64), seeds, **options)
    for name in ("frame_logits", "start_logits", "end_logits"):
        np.testing.assert_allclose(other[name][:, :64], plain[name], atol=1e-5, err_msg=name)
        assert not other[name][:, 64:].any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats, padded_stats)


def test_padding_reaches_proposals_only_through_their_neighbours() -> None:
    short, long = small_config(), small_config(data__num_frames=128)
    model, variables = build(short)
    features = random_batch(64)
    padded = np.concatenate([features, np.ones_like(features)], axis=1)
    plain = apply(model, variables, features, np.full(2, 64))["proposal_logits"]
    other = apply(SegTAD(long, CLASSES), variables, padded, np.full(2, 64))["proposal_logits"]

    a, b = grid(short), grid(long)
    row = {tuple(segment): i for i, segment in enumerate(b.segments.tolist())}
    same = np.array([row[tuple(segment)] for segment in a.segments.tolist()])
    settled = np.array(
        [
            set(map(tuple, a.segments[x].tolist())) == set(map(tuple, b.segments[y].tolist()))
            for x, y in zip(a.neighbours, b.neighbours[same], strict=True)
        ]
    )
    for _ in range(short.model.proposal_layers - 1):  # each layer looks one hop further
        settled &= settled[a.neighbours].all(axis=1)
    assert 20 < settled.sum() < len(settled)
    np.testing.assert_allclose(other[:, same[settled]], plain[:, settled], atol=1e-4)


@pytest.mark.slow
def test_sampled_and_full_graphs_agree_for_seeds_through_two_layers() -> None:
    config = small_config(model__proposal_layers=2)
    model, variables = build(config)
    features, num_frames = random_batch(64), np.full(2, 64)
    full = apply(model, variables, features, num_frames)["proposal_logits"]
    seeds = np.array([np.arange(0, 135, 9), np.arange(1, 136, 9)])
    sampled = apply(model, variables, features, num_frames, seeds)["proposal_logits"]
    sampled = sampled[:, :: grid(config).members.shape[1]]
    expected = np.take_along_axis(np.asarray(full), seeds[..., None], axis=1)
    np.testing.assert_allclose(sampled, expected, atol=1e-5)


def test_without_a_graph_every_proposal_stands_alone() -> None:
    """Table 7: what a proposal scores depends on its own features, here on 8 frames of 64."""
    config = small_config(model__proposal_graph=False)
    model, variables = build(config)
    kernels = variables["params"]["pdn"]
    assert {kernels[f"edge_{layer}_kernel"].shape for layer in range(3)} == {(8, 8)}
    row = np.flatnonzero((grid(config).segments == [16, 20]).all(axis=1))[0]
    seeds = np.array([[row, 3, 70], [90, row, 12]])  # in other company
    out = apply(model, variables, random_batch(64), np.full(2, 64), seeds)
    everything = apply(model, variables, random_batch(64), np.full(2, 64))["proposal_logits"]
    drawn = np.take_along_axis(
        np.asarray(everything), np.asarray(out["proposals"])[..., None], axis=1
    )
    np.testing.assert_allclose(out["proposal_logits"], drawn, atol=1e-5)


def test_classifier_shares_nothing_with_the_network_but_the_features() -> None:
    config = small_config(model__classifier=True)
    model, variables = build(config)
    params = variables["params"]

    @jax.jit
    def out(params: dict) -> dict[str, jax.Array]:
        return model.apply({**variables, "params": params}, random_batch(64), np.array([64, 40]))

    before = out(params)
    other = jax.tree.map(jnp.negative, params["classifier"])
    after = out({**params, "classifier": other})
    for name in before:
        assert np.array_equal(before[name], after[name]) == (name != "class_logits"), name
    after = out({**params, "ssn": jax.tree.map(jnp.negative, params["ssn"])})
    np.testing.assert_array_equal(before["class_logits"], after["class_logits"])


@pytest.mark.slow
def test_gradients_reach_every_parameter_and_are_finite_on_a_zero_video() -> None:
    config = small_config()
    model, variables = build(config)
    seeds = np.array([[0, 5, 100], [3, 3, 7]])

    def loss(params: dict, features: np.ndarray) -> jax.Array:
        out, _ = model.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            features,
            np.array([64, 40]),
            seeds,
            train=True,
            mutable="batch_stats",
        )
        return sum(jnp.sum(v**2) for k, v in out.items() if k != "proposals")

    gradient_of_loss = jax.jit(jax.grad(loss))
    gradients = gradient_of_loss(variables["params"], random_batch(64))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path
    for gradient in jax.tree.leaves(gradient_of_loss(variables["params"], 0 * random_batch(64))):
        assert np.isfinite(gradient).all()


def test_mean_pooling_ignores_padding_and_batch_norm_counts_valid_nodes() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    valid = np.arange(5) < np.array([[5], [2], [0]])
    x, valid = jnp.asarray(x), jnp.asarray(valid)
    norm = MaskedBatchNorm(None)
    variables = norm.init(jax.random.key(0), x, valid, False)
    y, updates = norm.apply(variables, x, valid, True, mutable="batch_stats")
    real = np.asarray(x, np.float64)[np.asarray(valid)]
    expected = (real - real.mean(0)) / np.sqrt(real.var(0) + 1e-5)
    np.testing.assert_allclose(y[valid], expected, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * real.mean(0), atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * real.var(0), atol=1e-6)


def test_upsampling_interpolates_and_clamps_at_the_last_real_node() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    count = np.array([6, 4])
    valid = np.arange(6) < count[:, None]
    found = _upsample(jnp.asarray(x), 8, jnp.asarray(valid))
    for video in range(2):
        for t in range(count[video] * 8):
            at = min(t / 8, count[video] - 1)
            low, part = int(at), at - int(at)
            high = min(low + 1, count[video] - 1)
            expected = (1 - part) * x[video, low] + part * x[video, high]
            np.testing.assert_allclose(found[video, t], expected, atol=1e-6)


def test_another_length_than_the_configs_is_an_error() -> None:
    model, variables = build(small_config())
    with pytest.raises(ValueError, match=r"features of 128 frames, but data.num_frames = 64"):
        model.apply(variables, random_batch(128), np.full(2, 64))


def test_equal_grids_are_built_once() -> None:
    assert grid(small_config()) is grid(small_config(model__width=16))
