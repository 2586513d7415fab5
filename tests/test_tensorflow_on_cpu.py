"""TensorFlow sees no accelerator, wherever it is used."""

import pytest
from etils import epath

from segtad_jax.data import embedded, tensorflow_on_cpu, writer
from tests.test_run import opened


def test_accelerators_are_hidden_from_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    tf = tensorflow_on_cpu.tensorflow_on_cpu()
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *args: hidden.append(args))
    assert tensorflow_on_cpu.tensorflow_on_cpu() is tf
    assert hidden == [([], "GPU"), ([], "TPU")]


def test_a_program_that_used_tensorflow_before_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tf = tensorflow_on_cpu.tensorflow_on_cpu()

    def too_late(*args: object) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    assert tensorflow_on_cpu.tensorflow_on_cpu() is tf


def test_both_writers_of_shards_hide_them_first(tmp_path, monkeypatch) -> None:
    class HiddenFirstError(Exception):
        pass

    def first() -> None:
        raise HiddenFirstError

    for module in (embedded, writer):
        monkeypatch.setattr(module, "tensorflow_on_cpu", first)
    with pytest.raises(HiddenFirstError):
        opened(str(tmp_path))
    split = writer._Split("x", "training", epath.Path(tmp_path))
    with pytest.raises(HiddenFirstError):
        split.write(b"record")
