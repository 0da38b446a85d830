"""Log-probabilities on disk, so that a recognition can be decoded again without running the model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lact_asr_model.evaluation.records import Key
from lact_asr_model.files import complete_file


class EmissionStore:
    """The log-probabilities of recognitions, a file for each, in a folder that is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, key: Key) -> bool:
        return self._path(key).is_file()

    def write(self, key: Key, emissions: Sequence[np.ndarray]) -> None:
        """Keep the log-probabilities [frames, vocabulary] of every segment of an utterance."""
        self._folder.mkdir(exist_ok=True)
        with complete_file(self._path(key)) as file:
            np.savez(file, *emissions)

    def read(self, key: Key) -> list[np.ndarray]:
        """What `write` kept."""
        with np.load(self._path(key)) as archive:
            return [archive[name] for name in archive.files]

    def _path(self, key: Key) -> Path:
        return self._folder / (hashlib.sha256("\n".join(key).encode()).hexdigest()[:32] + ".npz")
