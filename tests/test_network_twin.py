"""The network and its losses against a slow twin, for every value of every field.

The twin is float64; the network is float32, since integrals, norms and cosines are so whatever
`model.dtype` says. Outputs agree to a few units of the sixth digit, and a wrong wiring, which
changes the first, cannot hide behind that.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from segtad_jax import losses
from segtad_jax.config.check import CHOICES, check
from segtad_jax.config.defaults import default, with_arguments
from segtad_jax.models.segtad import SegTAD
from segtad_jax.ops import sampling
from segtad_jax.step import TrainState, loss_terms, train_step
from tests import network_twin
from tests.network_twin import Twin

FRAMES, CHANNELS, CLASSES, SEEDS = 64, 3, 2, 3
NUM_FRAMES = np.array([64, 40, 13], np.int32)  # a full window, whole snippets, and neither

# Each names the fields that differ from SMALL: every value once, not their product.
SMALL = {
    "data.num_frames": FRAMES,
    "data.num_classes": CLASSES,
    "model.width": 4,
    "model.dilations": (1, 3),
    "model.num_bins": 8,
    "sampling.seeds": SEEDS,
}
VARIANTS: dict[str, dict[str, object]] = {
    "defaults": {},
    "paper": {"": "paper", "model.stride": 4},
    "max, all highways, coarse decoder": {
        "model.width": 6,
        "model.aggregate": "max",
        "model.decoder_stride": 4,
        "model.input_highway": True,
        "model.snippet_neighbours": 2,
        "model.num_bins": 4,
        "loss.segmentation": 0.5,
        "loss.detection": 2.0,
        "loss.boundary": 3.0,
        "loss.balance_proposals": False,
        "loss.positive_tiou": 0.3,
    },
    "centres, wide context, own classifier": {
        "model.similarity": "center",
        "model.context": 1.0,
        "model.num_bins": 6,
        "model.classifier": True,
        "model.proposal_neighbours": 2,
        "model.proposal_layers": 2,
        "loss.snap": 3,
        "loss.l2": 0.1,
        "loss.boundary_radius": 2,
    },
    "centres in a list, coarse linear decoder": {
        "model.similarity": "center",
        "sampling.edges": "list",
        "sampling.seeds": 4,
        "model.interpolation": "linear",
        "model.decoder_stride": 4,
        "model.stride": 4,
        "loss.balance_boundaries": False,
    },
    "normalised, graph branch, proposals alone": {
        "model.normalise": True,
        "model.branches": ("graph",),
        "model.aggregate": "sum",
        "model.proposal_graph": False,
        "loss.segmentation_classes": False,
        "eval.class_scores": "scores.json",  # nothing else would name classes
    },
    "atrous branch, input highway": {
        "model.branches": ("atrous",),
        "model.dilations": (1, 2, 4, 6),
        "model.input_highway": True,
        "train.rematerialise": True,
    },
    "pyramid": {"model.stride": 2, "model.pyramid": 2, "loss.snap": 1},
    "global branch": {"model.branches": ("global",)},
    "bfloat16": {"model.dtype": "bfloat16", "model.width": 16},
}


def make(name: str) -> ConfigDict:
    fields = SMALL | VARIANTS[name]
    config = with_arguments(default(), str(fields.pop("", "")))
    config.update_from_flattened_dict(fields)
    check(config)
    return config


@functools.cache
def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    segments = [
        [(0.05, 0.42), (0.5, 0.8), (0.7, 1.3)],  # overlapping, and cut by the window: mostly out
        [(-0.2, 0.21), (0.2, 0.5), (0.55, 0.6)],  # half of the first is inside
        [(0.02, 0.1), (0.1, 0.19), (0, 0)],
    ]
    features = random.normal(size=(3, FRAMES, CHANNELS)).astype(np.float32)
    return {
        "features": features,  # beyond a video's frames too: they must not matter
        "segments": np.array(segments, np.float32),
        "labels": np.array([[1, 2, 1], [2, 1, 2], [1, 2, 0]], np.int32),
        "valid": np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], bool),
        "num_frames": NUM_FRAMES,
        "position": np.arange(3, dtype=np.int32),
    }


@functools.cache
def variables(name: str) -> dict:
    """Parameters and statistics of a size that tells every layer from its neighbours."""
    config = make(name)
    shapes = jax.eval_shape(
        SegTAD(config, CLASSES).init, jax.random.key(0), batch()["features"], NUM_FRAMES
    )
    random = np.random.default_rng(1)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name.endswith("kernel"):
            fan_in = np.prod(leaf.shape[:-1])
            return random.normal(size=leaf.shape, scale=1.4 / np.sqrt(fan_in)).astype(np.float32)
        around = 1.0 if name in ("scale", "var", "std") else 0.0
        return (around + random.uniform(-0.3, 0.3, leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, {"batch_stats": {}} | shapes)


def test_variants_cover_every_field() -> None:
    """A field that is added to the network or its losses needs a variant, and its twin."""
    configs = [make(name) for name in VARIANTS]
    for group in ("model", "sampling", "loss"):
        for field in sorted(configs[0][group]):
            name = f"{group}.{field}"
            values = {config[group][field] for config in configs}
            expected = CHOICES.get(name, (False, True) if bool in map(type, values) else ())
            assert values >= set(expected), f"no variant has {name} = {set(expected) - values}"
            assert len(values) > 1, f"all variants have {name} = {values}: give one another value"


def labels(config: ConfigDict) -> list[network_twin.Tree]:
    b = batch()
    actions = [
        [(*s, label) for s, label, counts in zip(*video, strict=True) if counts]
        for video in zip(b["segments"].astype(float), b["labels"], b["valid"], strict=True)
    ]
    return [network_twin.targets(config, video) for video in actions]


def first_seeds(positive: np.ndarray, valid: np.ndarray, number: int) -> np.ndarray:
    """Half of them positive, as drawn, but the first of either kind: -1 where there is none."""
    seeds = [*np.flatnonzero(positive & valid)[: (number + 1) // 2]]
    seeds += [*np.flatnonzero(~positive & valid)[: number - len(seeds)]]
    return np.array(seeds + [-1] * (number - len(seeds)))


@pytest.fixture
def first_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(
        key: jax.Array, positive: jax.Array, valid: jax.Array, num_seeds: int
    ) -> tuple[jax.Array, jax.Array]:
        found = jax.pure_callback(
            lambda p, v: first_seeds(np.asarray(p), np.asarray(v), num_seeds).astype(np.int32),
            jax.ShapeDtypeStruct((num_seeds,), jnp.int32),
            positive,
            valid,
            vmap_method="sequential",
        )
        return jnp.maximum(found, 0), (found >= 0).astype(jnp.float32)

    monkeypatch.setattr(sampling, "draw_seeds", draw)


def seeds_of_twin(
    config: ConfigDict, truth: list[network_twin.Tree]
) -> tuple[np.ndarray, np.ndarray]:
    """Seeds and weights [b, S] by the twin's own targets."""
    segments = network_twin.grid(config)
    drawn = []
    for video, count in zip(truth, NUM_FRAMES, strict=True):
        h_reg = np.array([network_twin.best_tiou(s, video["actions"]) for s in segments])
        positive, valid = h_reg > config.loss.positive_tiou, segments[:, 1] <= count
        drawn.append(first_seeds(positive, valid, config.sampling.seeds))
    return np.maximum(drawn, 0), (np.array(drawn) >= 0).astype(float)


def close(found: object, expected: object, config: ConfigDict, what: str) -> None:
    expected, error = np.asarray(expected), np.asarray(found) - expected
    assert error.shape == expected.shape, what
    if config.model.dtype == "bfloat16":  # where features nearly vanish, their cosine is anything
        error = np.sqrt(np.mean(error**2))
        scale, rounding = np.sqrt(np.mean(expected**2)), 0.05
    else:
        scale, rounding = np.abs(expected).max(), 2e-5
    np.testing.assert_allclose(error, 0, atol=rounding * max(scale, 1e-3), err_msg=what)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Those of every call of the network, also within `loss_terms`."""
    calls: list[dict] = []
    apply = SegTAD.apply

    def remember(model: SegTAD, *args: object, **kwargs: object) -> object:
        result = apply(model, *args, **kwargs)
        calls.append(result[0] if isinstance(result, tuple) else result)
        return result

    monkeypatch.setattr(SegTAD, "apply", remember)
    return calls


@pytest.mark.usefixtures("first_are_drawn")
@pytest.mark.parametrize("name", VARIANTS)
def test_network_and_losses_equal_their_twin(name: str, outputs: list[dict]) -> None:
    config, b = make(name), batch()
    twin = Twin(config, variables(name))

    @jax.jit
    def both(variables: dict, batch: dict) -> tuple:
        model = SegTAD(config, CLASSES)
        model.apply(variables, batch["features"], batch["num_frames"])
        terms, stats = loss_terms(config, model, variables, batch, jax.random.key(0))
        return outputs, {name: losses.mean(term) for name, term in terms.items()}, stats

    (full, sampled), values, stats = both(variables(name), b)

    expected, _ = twin(b["features"], NUM_FRAMES)
    assert set(full) == {*expected, "proposals"}
    for key, value in expected.items():
        close(full[key], value, config, key)

    truth = labels(config)
    seeds, weights = seeds_of_twin(config, truth)
    expected, expected_stats = twin(b["features"], NUM_FRAMES, seeds, train=True)
    members = np.asarray(sampled["proposals"]).reshape(*seeds.shape, -1)
    present = np.zeros(expected["copies"].shape, bool)
    np.put_along_axis(present, members, True, axis=2)
    np.testing.assert_array_equal(present, expected["copies"] > 0)
    logits = np.take_along_axis(expected["proposal_logits"], members[..., None], axis=2)
    close(sampled["proposal_logits"], logits.reshape(3, -1, 2), config, "sampled proposals")
    for key in set(expected) - {"proposal_logits", "copies"}:
        close(sampled[key], expected[key], config, f"{key} in training")
    assert jax.tree.structure(stats) == jax.tree.structure(expected_stats)
    jax.tree.map(lambda a, e: close(a, e, config, "statistics"), stats, expected_stats)

    terms = network_twin.losses(config, expected, NUM_FRAMES, truth, weights)
    assert set(values) == set(terms)
    for key, value in terms.items():
        close(values[key], value, config, f"loss of {key}")


@pytest.mark.slow
@pytest.mark.usefixtures("first_are_drawn")
@pytest.mark.parametrize(
    "name", ["max, all highways, coarse decoder", "centres, wide context, own classifier"]
)
def test_step_descends_the_gradient_of_its_twin(name: str) -> None:
    """Every parameter's, in a direction at random: the twin has difference quotients."""
    config, b = make(name), batch()
    state = TrainState(
        step=jnp.zeros((), jnp.int32), **variables(name), opt_state=optax.sgd(1.0).init({})
    )
    step = functools.partial(
        train_step, config=config, model=SegTAD(config, CLASSES), optimizer=optax.sgd(1.0)
    )
    after, metrics = jax.jit(step)(state, b)

    truth = labels(config)
    seeds, weights = seeds_of_twin(config, truth)

    def total(params: dict) -> float:
        twin = Twin(config, {**variables(name), "params": params})
        out, _ = twin(b["features"], NUM_FRAMES, seeds, train=True)
        terms = network_twin.losses(config, out, NUM_FRAMES, truth, weights)
        return network_twin.weighted_total(config, terms)

    params = network_twin.float64(variables(name)["params"])
    l2 = network_twin.l2(config, params)
    close(metrics["loss/l2"], l2, config, "L_r")
    close(metrics["loss/total"], total(params) + l2, config, "total")
    random, step_size = np.random.default_rng(2), 1e-6
    paths = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), new in zip(paths, jax.tree.leaves(after.params), strict=True):
        gradient = leaf - np.asarray(new, np.float64)
        direction = gradient / max(np.linalg.norm(gradient), 1e-9) + random.normal(size=leaf.shape)

        def moved(by: float, at: tuple = path, along: np.ndarray = direction) -> dict:
            return jax.tree_util.tree_map_with_path(
                lambda p, x: x + by * along if p == at else x, params
            )

        slope = (total(moved(step_size)) - total(moved(-step_size))) / (2 * step_size)
        found = np.sum(gradient * direction)
        assert found == pytest.approx(slope, rel=2e-3, abs=1e-5), jax.tree_util.keystr(path)
