"""Long recordings in pieces: cut at the quietest points, block by block, so that memory stays bounded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE

_HOP_SAMPLES = SAMPLING_RATE // 100
_QUIET_WINDOW_HOPS = 20


@dataclass(frozen=True)
class Segment:
    """A piece of a recording: float32 [samples] at 16 kHz, and where it starts."""

    start_seconds: float
    samples: np.ndarray


def split_at_quiet_points(blocks: Iterable[np.ndarray], max_seconds: float) -> Iterator[Segment]:
    """Cut consecutive blocks of audio into segments of at most `max_seconds`, together the whole recording.

    Each cut is in the middle of the quietest 0.2 s of the second half of what a segment may hold.
    """
    max_samples = round(max_seconds * SAMPLING_RATE)
    buffer = np.zeros(0, dtype=np.float32)
    start = 0
    for block in blocks:
        buffer = np.concatenate([buffer, block]) if len(buffer) else block
        while len(buffer) > max_samples:
            cut = _quietest_sample(buffer[:max_samples])
            yield Segment(start / SAMPLING_RATE, buffer[:cut])
            start, buffer = start + cut, buffer[cut:]
    if len(buffer):
        yield Segment(start / SAMPLING_RATE, buffer)


def _quietest_sample(samples: np.ndarray) -> int:
    """The middle of the quietest stretch in the second half of [samples]."""
    first = len(samples) // 2
    return first + quietest_sample(samples[first:])


def quietest_sample(samples: np.ndarray) -> int:
    """The middle of the quietest 0.2 s of [samples], which are at least 10 ms."""
    whole_hops = samples[: len(samples) // _HOP_SAMPLES * _HOP_SAMPLES]
    hops = whole_hops.astype(np.float64).reshape(-1, _HOP_SAMPLES)
    window = min(_QUIET_WINDOW_HOPS, len(hops))
    energies = np.convolve(hops.var(axis=1), np.ones(window), mode="valid")
    return (int(energies.argmin()) * 2 + window) * _HOP_SAMPLES // 2
