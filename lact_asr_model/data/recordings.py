"""Noises, rooms and voices to corrupt speech with: audio files, drawn at random."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lact_asr_model.audio import load_audio
from lact_asr_model.audio_search import find_audio_files
from lact_asr_model.data.corruptions import reverberate, synthetic_impulse_response

MAX_CACHED_SAMPLES = 64_000_000  # 256 MB of float32 for each collection of recordings


class Recordings:
    """Audio files, drawn at random; each is decoded when first drawn and then kept, up to `MAX_CACHED_SAMPLES`."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = find_audio_files(paths)
        self._decoded: dict[Path, np.ndarray] = {}
        self._num_cached_samples = 0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Float32 [samples] at 16 kHz of one recording."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        samples = self._decoded.get(path)
        if samples is None:
            samples = load_audio(path)
            if self._num_cached_samples + len(samples) <= MAX_CACHED_SAMPLES:
                self._decoded[path] = samples
                self._num_cached_samples += len(samples)
        return samples


def recordings_in(folder: str | Path | None) -> Recordings | None:
    return None if folder is None else Recordings([folder])


def random_room(samples: np.ndarray, rng: np.random.Generator, rooms: Recordings | None) -> np.ndarray:
    impulse_response = synthetic_impulse_response(rng) if rooms is None else rooms.draw(rng)
    return reverberate(samples, rng, impulse_response)
