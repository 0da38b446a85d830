"""Log-probabilities on disk, so that a recognition can be decoded again without running the model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lact_asr_model.evaluation.records import Key
from lact_asr_model.files import complete_file, encode


class EmissionStore:
    """The log-probabilities of recognitions, a file for each, in a folder that is made when it is first needed.

    What other processes write meanwhile is read, but does not count as kept: all share out what was missing before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = set(folder.glob("*.npz"))

    def __contains__(self, key: Key) -> bool:
        return self._path(key) in self._kept

    def write(self, key: Key, emissions: Sequence[np.ndarray]) -> None:
        """Keep the log-probabilities [frames, vocabulary] of every segment of an utterance."""
        self._folder.mkdir(exist_ok=True)
        with complete_file(self._path(key)) as file:
            np.savez(file, *emissions)
        self._kept.add(self._path(key))

    def read(self, key: Key) -> list[np.ndarray]:
        """What `write` kept."""
        with np.load(self._path(key)) as archive:
            return [archive[name] for name in archive.files]

    def _path(self, key: Key) -> Path:
        return self._folder / (hashlib.sha256(encode("\n".join(key))).hexdigest()[:32] + ".npz")
