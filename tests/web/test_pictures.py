"""The pictures show the recording: its level, its frequencies, its length, and the course of the steps."""

import math

import numpy as np
import pytest

from lact_asr_model.acoustic_models.observed import StepPoint
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.serving.web.pictures import draw_recording, draw_steps, spectrogram_db, waveform


@pytest.fixture
def tone() -> np.ndarray:
    """A second of 2 kHz, silent in its second half."""
    time_seconds = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    return (0.5 * np.sin(2 * np.pi * 2000 * time_seconds) * (time_seconds < 0.5)).astype(np.float32)


def test_the_waveform_keeps_every_peak(tone: np.ndarray) -> None:
    tone[12345] = -0.9
    lowest, highest = waveform(tone, 10)
    assert len(lowest) == 10
    np.testing.assert_allclose(highest[:5], 0.5, atol=1e-3)
    assert (lowest[7], highest[7]) == (np.float32(-0.9), 0)
    assert waveform(tone[:3], 10).shape == (2, 3)


def test_the_spectrogram_shows_a_tone_where_it_is(tone: np.ndarray) -> None:
    spectrogram = spectrogram_db(tone, 100)
    assert spectrogram.shape == (257, 100)
    frequencies_hz = np.linspace(0, SAMPLING_RATE / 2, 257)
    assert frequencies_hz[spectrogram[:, 20].argmax()] == 2000
    assert spectrogram.max() == 0
    assert (spectrogram[:, 60:] == -70).all()


@pytest.mark.parametrize("num_samples", [1, 399, 400, 1000])
def test_short_and_silent_recordings_have_a_spectrogram(num_samples: int) -> None:
    spectrogram = spectrogram_db(np.zeros(num_samples, dtype=np.float32))
    assert spectrogram.shape[1] >= 1
    assert (spectrogram == -70).all()


def test_the_picture_of_a_recording_spans_its_length_and_its_peak(tone: np.ndarray) -> None:
    pytest.importorskip("matplotlib")
    above, below = draw_recording(3 * tone).axes
    assert below.get_xlim() == (0, 1)
    assert above.get_ylim() == (-1.5, 1.5)


def test_the_picture_of_the_steps_has_a_point_before_the_first_and_after_each() -> None:
    pytest.importorskip("matplotlib")
    points = [StepPoint(2.0, 1.0), StepPoint(1.5, 0.5), StepPoint(math.nan, 0.25)]
    loss, entropy = draw_steps(points, "entropy").axes
    assert loss.get_lines()[0].get_xydata().tolist()[:2] == [[0, 2.0], [1, 1.5]]
    assert entropy.get_lines()[0].get_xydata().tolist() == [[0, 1.0], [1, 0.5], [2, 0.25]]
    assert "entropy" in loss.get_ylabel()
    assert draw_steps([], "entropy").axes
