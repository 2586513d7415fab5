"""The file of frames' probabilities: FILE.npz, of which any program reads one recording alone.

`classes` are the K names, `identity` says what the file was made of; of recording ID
`ID/probabilities` are [F, K] float32, and `ID/times` the middles of its frames in seconds.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from segtad_jax.evaluation.entries import shown
from segtad_jax.evaluation.ids import is_bad_id
from segtad_jax.evaluation.json_files import InputError
from segtad_jax.predict.detections import BACKGROUND
from segtad_jax.runtime import files

Add = Callable[[str, np.ndarray, np.ndarray], None]  # a recording: id, probabilities, times


class FrameFile:
    """A file that is written a recording at a time, whole or not at all."""

    def __init__(
        self, path: epath.PathLike, made_by: Mapping[str, Any], sources: Mapping[str, str]
    ) -> None:
        """Writes nothing yet.

        Args:
            path: FILE.npz.
            made_by: identity of the model, with the settings that decide; JSON.
            sources: {video: identity of its features}.

        Raises:
            InputError: an id can be no name in it.
            ValueError: the file that is there is no such file.
        """
        self._path = epath.Path(path)
        content = json.dumps([dict(made_by), dict(sources)], sort_keys=True)
        self._identity = hashlib.sha256(content.encode()).hexdigest()
        if bad := next(filter(is_bad_id, sources), None):
            raise InputError(
                f"--frames names its arrays for the recordings, but {shown(bad)!r} can be no "
                "name: rename it, or leave --frames out"
            )
        self.done = self._path.exists() and self._read_identity() == self._identity

    def _read_identity(self) -> str:
        try:
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return str(arrays["identity"])
        except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"--frames={self._path}: is there, and is no file of frames that predict wrote: "
                "move it away, or give another name"
            ) from error

    @contextlib.contextmanager
    def writing(self, classes: Sequence[str]) -> Iterator[Add]:
        """Returns a context with a function that adds a recording; the file appears when it ends.

        Args:
            classes: names of the labels 1..D.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not files.on_object_store(self._path):
            files.remove_leftovers(self._path.parent, self._path.name)
        with (
            files.written_whole(self._path) as file,
            zipfile.ZipFile(file, "w") as archive,  # numpy.savez wants all arrays at once
        ):
            _add(archive, "identity", np.array(self._identity))
            _add(archive, "classes", np.array([BACKGROUND, *classes]))

            def add(video: str, probabilities: np.ndarray, times: np.ndarray) -> None:
                _add(archive, f"{video}/probabilities", probabilities.astype(np.float32))
                _add(archive, f"{video}/times", times)

            yield add


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")  # without the time of day: equal content, equal bytes
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
