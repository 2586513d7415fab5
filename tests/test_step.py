"""One step: equal on any number of devices, finite on any video, honest about NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from segtad_jax import losses, step
from segtad_jax.data.dataset import Recording
from segtad_jax.models import segtad
from segtad_jax.models.grid import grid
from segtad_jax.models.segtad import SegTAD
from segtad_jax.ops.sampling import draw_seeds
from segtad_jax.optim import optimizer
from segtad_jax.runtime import parallel
from segtad_jax.step import (
    TrainState,
    boundary_bias,
    create_state,
    loss_terms,
    train_step,
)
from segtad_jax.targets import video_targets
from tests.test_models import CHANNELS, CLASSES, small_config

BATCH, ACTIONS = 8, 5


def batch_of(seed: int = 0) -> dict[str, np.ndarray]:
    """Videos of different real lengths: devices then hold different weights."""
    random = np.random.default_rng(seed)
    num_frames = np.array([64, 64, 40, 64, 24, 64, 64, 16], np.int32)
    start = random.random((BATCH, ACTIONS)) * num_frames[:, None] / 64 * 0.8
    length = random.random((BATCH, ACTIONS)) * 0.2 + 0.02
    features = random.normal(size=(BATCH, 64, CHANNELS)).astype(np.float32)
    features *= (np.arange(64) < num_frames[:, None])[..., None]
    valid = np.arange(ACTIONS) < random.integers(0, ACTIONS + 1, BATCH)[:, None]
    return {
        "features": features,
        "segments": np.stack([start, start + length], axis=-1).astype(np.float32),
        "labels": np.where(valid, random.integers(1, CLASSES + 1, valid.shape), 0).astype(np.int32),
        "valid": valid,
        "num_frames": num_frames,
        "position": np.arange(BATCH, dtype=np.int32),
    }


def make(config, transform=None):
    transform = transform or optimizer(config)
    state = create_state(config, SegTAD(config, CLASSES), transform, CHANNELS)
    step = functools.partial(train_step, config=config, optimizer=transform)
    return state, step


BEYOND = {  # the paper
    "model__input_highway": True,
    "augment__noise": 0.3,
    "augment__mirror": (1, 2),
    "augment__rotate": (2, 3),
    "augment__mix_style": 0.5,
    "augment__masks": 2,
    "augment__mask_frames": 16,
    "loss__snap": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(("argument", "fields"), [("", {}), ("paper", {}), ("", BEYOND)])
def test_four_devices_give_the_losses_and_sgd_gradients_of_one(
    argument: str, fields: dict[str, object]
) -> None:
    assert jax.local_device_count() == 4
    config = small_config(argument, sampling__seeds=6, loss__l2=0.0, **fields)
    state, step = make(config, optax.sgd(1.0))  # Adam would hide a wrong scale
    state = jax.device_get(state)  # on devices, pmap would take its buffers
    batch = batch_of()
    model = functools.partial(SegTAD, config, CLASSES)
    one, metrics = jax.jit(functools.partial(step, model=model()))(state, batch)

    sharded = functools.partial(step, model=model(axis_name=parallel.AXIS), axis_name=parallel.AXIS)
    compiled = parallel.replicate_step(sharded)
    four, four_metrics = compiled(parallel.replicate(state), parallel.shard_batch(batch))

    mesh = Mesh(np.array(jax.devices()), (parallel.AXIS,))
    specs = (PartitionSpec(), {k: PartitionSpec(parallel.AXIS) for k in batch})
    mapped = jax.shard_map(
        sharded, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    )
    other, other_metrics = jax.jit(mapped)(state, batch)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, (one, metrics), (four, four_metrics))
    jax.tree.map(close, (one, metrics), (other, other_metrics))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, one.params)
    assert max(jax.tree.leaves(moved)) > 1e-3  # the comparison is of gradients, not of nothing


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["no action", "one frame", "all action"])
def test_any_video_gives_finite_losses_and_gradients(kind: str) -> None:
    config = small_config(sampling__seeds=6)
    state, step = make(config)
    batch = batch_of()
    segment = {"no action": (0, 0), "one frame": (0.5, 0.5 + 1 / 64), "all action": (0, 1)}[kind]
    batch["segments"] = np.broadcast_to(np.float32(segment), (BATCH, ACTIONS, 2))
    batch["valid"] = np.full((BATCH, ACTIONS), kind != "no action")
    batch["labels"] = batch["valid"].astype(np.int32)
    batch["num_frames"] = np.full(BATCH, 64, np.int32)
    step = jax.jit(functools.partial(step, model=SegTAD(config, CLASSES)))
    for _ in range(3):
        state, metrics = step(state, batch)
        assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert metrics["norm/gradients"] > 0


@pytest.mark.slow
def test_draws_depend_on_step_and_position_alone() -> None:
    config = small_config(sampling__seeds=6)
    state, step = make(config)
    step = jax.jit(functools.partial(step, model=SegTAD(config, CLASSES)))
    batch = batch_of()
    loss = float(step(state, batch)[1]["loss/regression"])
    assert loss == float(step(state, batch)[1]["loss/regression"])
    assert loss != float(step(state.replace(step=state.step + 1), batch)[1]["loss/regression"])
    moved = batch | {"position": batch["position"] + 8}
    assert loss != float(step(state, moved)[1]["loss/regression"])


def test_padding_carries_no_loss() -> None:
    config = small_config(sampling__seeds=6)
    state, _ = make(config)
    model = SegTAD(config, CLASSES)

    @jax.jit
    def terms(batch, key):
        found, _ = loss_terms(config, model, state.variables, batch, key)
        return found

    batch, key = batch_of(), jax.random.key(3)
    found = terms(batch, key)
    assert found["segmentation"].weights == batch["num_frames"].sum()
    assert found["start"].weights.sum() == batch["num_frames"].sum()

    constants, rows = grid(config), []
    targets_of = functools.partial(
        video_targets, num_frames=64, num_classes=CLASSES, boundary_radius=1
    )
    for video in range(BATCH):
        end = constants.segments[:, 1]
        tiou = targets_of(
            jnp.array(batch["segments"][video]),
            jnp.array(batch["labels"][video]),
            jnp.array(batch["valid"][video]),
            jnp.array(constants.segments),
        ).tiou
        drawn, weights = draw_seeds(
            jax.random.fold_in(jax.random.split(key, 3)[0], video),
            tiou > 0.5,
            jnp.asarray(end <= batch["num_frames"][video]),
            6,
        )
        assert (end[drawn[weights > 0]] <= batch["num_frames"][video]).all()
        drawn = drawn[weights > 0]
        inside = end[constants.members[drawn]] <= batch["num_frames"][video]
        rows.append((inside * constants.copies[drawn]).sum())
    assert found["regression"].weights == found["classification"].weights.sum() == sum(rows)
    assert sum(rows) < BATCH * 6 * 21


@pytest.mark.slow
@pytest.mark.parametrize("edges", ["tree", "list"])
def test_copies_count_as_if_each_were_computed(monkeypatch, edges: str) -> None:
    config = small_config(sampling__seeds=6, sampling__edges=edges)
    state, _ = make(config)
    model, key = SegTAD(config, CLASSES), jax.random.key(3)
    batch = jax.tree.map(jnp.asarray, batch_of())

    def terms_and_gradients():
        def total(params):
            variables = state.variables | {"params": params}
            terms, _ = loss_terms(config, model, variables, batch, key)
            return sum(losses.mean(term) for term in terms.values()), terms

        return jax.jit(jax.grad(total, has_aux=True))(state.params)

    few = terms_and_gradients()
    constants = grid(config)
    columns = np.arange(constants.members.shape[1])
    at = np.stack([np.repeat(columns, c.astype(int)) for c in constants.copies])  # [M, 21]
    firsts = (at[:, None] == columns[:, None]).argmax(2)
    every = constants._replace(
        members=np.take_along_axis(constants.members, at, axis=1),
        copies=np.ones(at.shape, np.float32),
        edges=np.take_along_axis(
            firsts[:, None], np.take_along_axis(constants.edges, at[..., None], axis=1), axis=2
        ),
    )
    assert every.members.shape[1] == 21 > len(columns)
    for module in (step, segtad):
        monkeypatch.setattr(module, "grid", lambda _: every)
    all_rows = terms_and_gradients()
    for one, other in zip(jax.tree.leaves(few), jax.tree.leaves(all_rows), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_segmentation_loss_off_leaves_its_head_without_gradient() -> None:
    fields = {"sampling__seeds": 6, "model__classifier": True, "loss__l2": 0.0}
    found = {}
    for name, more in {"classes": {}, "off": {"loss__segmentation": 0.0}}.items():
        config = small_config(**fields, **more)
        state, step = make(config, optax.sgd(1.0))
        after, _ = jax.jit(functools.partial(step, model=SegTAD(config, CLASSES)))(
            state, batch_of()
        )
        found[name] = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, state.params)
    assert found["classes"]["ssn"]["segmentation"]["kernel"] > 0
    assert found["off"]["ssn"]["segmentation"]["kernel"] == 0
    assert found["off"]["ssn"]["encoder_0"]["kernel"] > 0
    for name in found:  # the classifier learns either way, and alike
        assert found[name]["classifier"]["segmentation"]["kernel"] > 0
    same = functools.partial(np.testing.assert_allclose, rtol=1e-3)
    jax.tree.map(same, found["off"]["classifier"], found["classes"]["classifier"])


def recording(video: str, num_frames: int = 100, actions: int = 1) -> Recording:
    segments = np.tile([[1.0, 2.0]], (actions, 1))
    labels = np.ones(actions, np.int32)
    return Recording(video, num_frames, 5.0, num_frames / 5, segments, labels, "shard", 0, 1)


@pytest.mark.slow
def test_heads_start_at_the_base_rate_where_not_balanced() -> None:
    recordings = [recording("a", 100, 2), recording("b", 300, 6)]
    assert boundary_bias(small_config(), recordings) == 0.0
    bias = boundary_bias(small_config("paper"), recordings)  # 8 starts in 400 frames
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(0.02)
    config = small_config("paper")
    model = SegTAD(config, CLASSES, bias)
    init = jax.jit(model.init)
    params = init(jax.random.key(0), jnp.zeros((1, 64, CHANNELS)), jnp.full(1, 64))["params"]
    np.testing.assert_allclose(params["ssn"]["start"]["bias"], bias)
    assert isinstance(make(config)[0], TrainState)
    assert len(grid(config).segments) == 36  # stride 8, whatever the config has


@pytest.mark.slow
def test_computing_activations_again_changes_nothing_but_memory() -> None:
    found = {}
    for again in (False, True):
        config = small_config()
        config.train.rematerialise = again
        transform = optax.sgd(0.1)
        state, step = make(config, transform)
        step = jax.jit(functools.partial(step, model=SegTAD(config, CLASSES)))
        compiled = step.lower(state, batch_of()).compile()
        found[again] = (*compiled(state, batch_of()), compiled.memory_analysis())
    (kept, metrics, memory), (again, same, less) = found[False], found[True]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), again, kept)
    np.testing.assert_allclose(same["loss/total"], metrics["loss/total"], rtol=1e-6)
    assert less.temp_size_in_bytes < 0.9 * memory.temp_size_in_bytes
