"""Long training recordings: neighbouring utterances of one speaker, heard as one."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE

PAUSE_SECONDS_RANGE = (0.1, 0.8)


def join_neighbours(
    durations_seconds: Sequence[float],
    speakers: Sequence[str | None],
    rng: np.random.Generator,
    *,
    share: float,
    longest_seconds: float,
) -> list[tuple[int, ...]]:
    """Every index once, alone or with its neighbours: about `share` of the speakers' audio in long recordings.

    Utterances that follow each other with the same speaker are cut into pieces whose length, in seconds, is drawn
    between half of `longest_seconds` and all of it (shorter where the speaker has no more). A piece is one recording
    with probability `share`, otherwise its utterances stay alone, as do those without a speaker.
    """
    groups: list[tuple[int, ...]] = []
    for speaker, run in groupby(range(len(speakers)), key=lambda index: speakers[index]):
        pieces: list[list[int]] = []
        left_seconds = -1.0
        for index in run:
            left_seconds -= durations_seconds[index]
            if left_seconds < 0 or speaker is None:
                pieces.append([])
                left_seconds = longest_seconds * rng.uniform(0.5, 1.0) - durations_seconds[index]
            pieces[-1].append(index)
        for piece in pieces:
            is_joined = rng.random() < share
            groups += [tuple(piece)] if is_joined else [(index,) for index in piece]
    return groups


def join_samples(recordings: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The recordings, float32 [samples] at 16 kHz, one after the other with a short pause between two."""
    joined = [recordings[0]]
    for recording in recordings[1:]:
        pause = np.zeros(round(rng.uniform(*PAUSE_SECONDS_RANGE) * SAMPLING_RATE), dtype=np.float32)
        joined += [pause, recording]
    return np.concatenate(joined)
