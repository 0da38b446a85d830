import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lact_asr_model.recognition import segments
from lact_asr_model.recognition.segments import split_at_quiet_points

SAMPLING_RATE = 16000


def noise_with_pauses(
    pauses_seconds: list[float], total_seconds: float, sampling_rate: int = SAMPLING_RATE
) -> np.ndarray:
    """Noise with a pause of 0.4 s centred at each of the given times."""
    samples = np.random.default_rng(0).normal(scale=0.1, size=round(total_seconds * sampling_rate))
    for pause in pauses_seconds:
        samples[round((pause - 0.2) * sampling_rate) : round((pause + 0.2) * sampling_rate)] *= 1e-3
    return samples.astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40000), max_size=6), st.floats(1.0, 3.0))
def test_segments_are_the_whole_recording_in_order_and_none_is_too_long(sizes: list[int], max_seconds: float) -> None:
    recording = np.random.default_rng(1).normal(size=sum(sizes)).astype(np.float32)
    blocks = np.split(recording, np.cumsum(sizes)[:-1]) if sizes else []
    pieces = list(split_at_quiet_points(blocks, max_seconds))
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces] or [recording]), recording)
    assert all(0 < len(piece.samples) <= round(max_seconds * SAMPLING_RATE) for piece in pieces)
    starts = np.cumsum([0] + [len(piece.samples) for piece in pieces])[:-1]
    assert [piece.start_seconds for piece in pieces] == pytest.approx(starts / SAMPLING_RATE)
    assert len(pieces) <= 1 + 2 * len(recording) / (max_seconds * SAMPLING_RATE)


def test_cuts_are_in_the_pauses() -> None:
    pauses = [2.6, 4.7, 7.3]
    pieces = list(split_at_quiet_points([noise_with_pauses(pauses, 9.0)], 3.0))
    assert [piece.start_seconds for piece in pieces] == pytest.approx([0, *pauses], abs=0.21)


def test_a_constant_offset_does_not_hide_a_pause() -> None:
    pieces = list(split_at_quiet_points([noise_with_pauses([2.6], 4.0) + np.float32(0.5)], 3.0))
    assert [piece.start_seconds for piece in pieces] == pytest.approx([0, 2.6], abs=0.21)


def test_a_long_recording_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    buffered = []
    quietest_sample = segments._quietest_sample
    monkeypatch.setattr(segments, "_quietest_sample", lambda s: buffered.append(len(s.base)) or quietest_sample(s))
    recording = noise_with_pauses([], 20.0)
    pieces = list(split_at_quiet_points(np.split(recording, 20), 2.0))
    assert len(pieces) > 9
    assert max(buffered) <= 3.1 * SAMPLING_RATE
