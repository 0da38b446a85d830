"""Every kind of damage that the page offers does something, as loud as the visitor says, and the same every time."""

from pathlib import Path

import numpy as np
import pytest

from lact_asr_model.audio import load_audio
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.data.corruptions import active_power
from lact_asr_model.serving.web.noises import CLEAN, WHITE, Noises

VOICES = sorted(RECORDINGS_DIR.glob("*.mp3"))[:2]
NOISES = Noises(RECORDINGS_DIR / "noise", VOICES)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return load_audio(VOICES[1])


def test_clean_is_the_recording_itself(speech: np.ndarray) -> None:
    assert NOISES.kinds[0] == CLEAN
    assert NOISES.corrupt(speech, CLEAN, 5.0) is speech


@pytest.mark.parametrize("kind", NOISES.kinds[1:])
def test_every_other_kind_changes_the_recording_the_same_every_time(kind: str, speech: np.ndarray) -> None:
    before = speech.copy()
    changed = NOISES.corrupt(speech, kind, 5.0)
    np.testing.assert_array_equal(speech, before)
    np.testing.assert_array_equal(NOISES.corrupt(speech, kind, 5.0), changed)
    assert changed.shape == speech.shape
    assert not np.array_equal(changed, speech)
    assert NOISES.has_level(kind) == (not np.array_equal(NOISES.corrupt(speech, kind, 0.0), changed))


@pytest.mark.parametrize("kind", ["rain", WHITE, "several voices"])
@pytest.mark.parametrize("snr_db", [-5, 20])
def test_the_level_is_the_one_that_is_asked_for(kind: str, snr_db: int, speech: np.ndarray) -> None:
    noise = NOISES.corrupt(speech, kind, snr_db) - speech
    ratio_db = 10 * np.log10(active_power(speech) / np.mean(np.square(noise, dtype=np.float64)))
    assert ratio_db == pytest.approx(snr_db, abs=0.05)


def test_without_recordings_there_are_still_other_kinds(tmp_path: Path) -> None:
    kinds = Noises(tmp_path / "nowhere", []).kinds
    assert {CLEAN, WHITE, "telephone"} < set(kinds)
    assert not {"rain", "several voices"} & set(kinds)
