"""Long recordings in pieces: read block by block, cut at the quietest points, so that memory stays bounded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lact_asr_model.audio import SAMPLING_RATE, audio_duration_seconds, load_audio
from lact_asr_model.errors import UserError

_BLOCK_SECONDS = 10
_HOP_SAMPLES = SAMPLING_RATE // 100
_QUIET_WINDOW_HOPS = 20


@dataclass(frozen=True)
class Segment:
    """A piece of a recording: float32 [samples] at 16 kHz, and where it starts."""

    start_seconds: float
    samples: np.ndarray


def read_segments(path: str | Path, max_seconds: float) -> Iterator[Segment]:
    """Read an audio file as segments of at most `max_seconds`; a shorter file is one segment.

    Raises:
        UserError: the file cannot be read (see `load_audio`); in a long file only when the damaged part is reached.
    """
    is_short = audio_duration_seconds(path) <= max_seconds
    yield from split_at_quiet_points([load_audio(path)] if is_short else _read_blocks(path), max_seconds)


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
    half = samples[first:].astype(np.float64)
    hops = half[: len(half) // _HOP_SAMPLES * _HOP_SAMPLES].reshape(-1, _HOP_SAMPLES)
    window = min(_QUIET_WINDOW_HOPS, len(hops))
    energies = np.convolve(hops.var(axis=1), np.ones(window), mode="valid")
    return first + (int(energies.argmin()) * 2 + window) * _HOP_SAMPLES // 2


def _read_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The file at 16 kHz, one channel, in float32 blocks [samples] of about 10 s."""
    try:
        with soundfile.SoundFile(path) as file:
            resampler = soxr.ResampleStream(file.samplerate, SAMPLING_RATE, num_channels=1, dtype="float32")
            num_read = 0
            while len(block := file.read(_BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)):
                num_read += len(block)
                mono = block.mean(axis=1)
                if not np.isfinite(mono).all():
                    raise UserError(
                        f"{path}: samples are NaN or infinite; write the file again, for example as 16-bit WAV"
                    )
                yield resampler.resample_chunk(mono)
            if num_read < file.frames:
                raise UserError(f"{path}: the file is cut short; copy it again")
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: the audio is damaged ({error.error_string}); copy it again") from error
