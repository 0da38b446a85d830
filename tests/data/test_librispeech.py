"""The LibriSpeech reader on folders written here."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.audio import SAMPLING_RATE, load_audio
from lact_asr_model.data.librispeech import read_librispeech
from lact_asr_model.errors import UserError


def write_chapter(folder: Path, transcripts: dict[str, str], suffix: str = ".flac", seconds: float = 0.5) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoding = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    for name in transcripts:
        soundfile.write(folder / f"{name}{suffix}", np.zeros(int(seconds * SAMPLING_RATE)), SAMPLING_RATE, **encoding)
    lines = "".join(f"{name} {text}\n" for name, text in transcripts.items())
    (folder / f"{folder.parent.name}-{folder.name}.trans.txt").write_text(f"{lines}\n")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for number, suffix in enumerate([".flac", ".wav", ".mp3", ".ogg", ".opus"], start=1):
        write_chapter(tmp_path / "dev-clean" / str(number) / "7", {f"{number}-7-0000": f"text {number} é"}, suffix)
    return tmp_path


def test_every_audio_format_beside_its_transcript(data_dir: Path) -> None:
    utterances = read_librispeech(data_dir, "dev-clean")
    assert [utterance.id for utterance in utterances] == [f"{number}-7-0000" for number in range(1, 6)]
    assert {utterance.text for utterance in utterances} == {"TEXT E"}
    assert [utterance.speaker for utterance in utterances] == list("12345")
    for utterance in utterances:
        assert utterance.duration_seconds == 0.5
        # FFmpeg takes the ends of very short Vorbis streams by the block.
        tolerance = 256 if utterance.audio_path.suffix == ".ogg" else 0
        assert abs(len(load_audio(utterance.audio_path)) - SAMPLING_RATE // 2) <= tolerance


def test_the_folder_above_librispeech_is_good_too(tmp_path: Path) -> None:
    write_chapter(tmp_path / "LibriSpeech" / "dev-clean" / "5" / "6", {"5-6-0001": "B", "5-6-0000": "A"})
    utterances = read_librispeech(tmp_path, "dev-clean")
    assert [(utterance.id, utterance.text) for utterance in utterances] == [("5-6-0000", "A"), ("5-6-0001", "B")]
    assert utterances == read_librispeech(tmp_path / "LibriSpeech", "dev-clean")


def test_unknown_subset_lists_those_that_exist(data_dir: Path) -> None:
    write_chapter(data_dir / "LibriSpeech" / "test-clean" / "1" / "2", {"1-2-0000": "A"})
    with pytest.raises(UserError, match="no LibriSpeech subset 'dev-other'; choose one of: dev-clean, test-clean"):
        read_librispeech(data_dir, "dev-other")


def test_folder_without_any_subset(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="no subset at all"):
            read_librispeech(folder, "dev-clean")


def test_missing_recording_is_named(data_dir: Path) -> None:
    (data_dir / "dev-clean" / "3" / "7" / "3-7-0000.mp3").unlink()
    with pytest.raises(UserError, match="no audio file for '3-7-0000'"):
        read_librispeech(data_dir, "dev-clean")
