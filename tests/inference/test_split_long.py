"""Long utterances in parts: real speech whose parts are recognised again, and the folder that gets them."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import lact_asr_model as lact
from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.audio import SAMPLING_RATE, load_audio
from lact_asr_model.commands import split_long
from lact_asr_model.data.manifest import read_manifest
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.errors import UserError
from lact_asr_model.metrics import ErrorCounts, word_errors
from lact_asr_model.recognition.splitting import EDGE_SECONDS, split_utterance
from lact_asr_model.recognition.transcriber import Transcriber

RECORDINGS = Path(lact.__file__).parent / "bundled_recordings"
PAUSE_SECONDS = 0.6


@pytest.fixture(scope="module")
def model() -> AcousticModel:
    return lact.load()


@pytest.fixture(scope="module")
def spoken() -> dict[str, list[tuple[np.ndarray, str]]]:
    """Three utterances of each of two speakers."""
    lines = [json.loads(line) for line in (RECORDINGS / "manifest.jsonl").read_text().splitlines()]
    found: dict[str, list[tuple[np.ndarray, str]]] = {}
    for line in lines:
        of_speaker = found.setdefault(line["speaker"], [])
        if len(of_speaker) < 3:
            of_speaker.append((load_audio(RECORDINGS / line["audio_filepath"]), line["text"]))
    return found


def joined(utterances: list[tuple[np.ndarray, str]]) -> tuple[np.ndarray, str]:
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLING_RATE), dtype=np.float32)
    samples = np.concatenate([piece for recording, _ in utterances for piece in (pause, recording)])
    return samples, " ".join(text for _, text in utterances)


@pytest.fixture
def data_dir(tmp_path: Path, spoken: dict[str, list[tuple[np.ndarray, str]]]) -> Path:
    """A long utterance with its transcript, one with another's, one with letters that the model lacks, a short one."""
    (right, text), (other, _) = (joined(utterances) for utterances in spoken.values())
    rows = {"right": (right, text), "wrong": (other, text), "no text": (right, ""), "short": spoken["2086"][0]}
    lines = []
    for name, (samples, transcript) in rows.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, SAMPLING_RATE)
        lines.append(json.dumps({"audio_filepath": f"{name}.wav", "text": transcript, "speaker": "someone"}) + "\n")
    (tmp_path / "long.jsonl").write_text("".join(lines))
    return tmp_path


def split(data_dir: Path, *options: Any) -> Path:
    output_dir = data_dir / "parts"
    given = ("--data_dir", data_dir, "--subset", "long.jsonl", "--output_dir", output_dir, "--max_seconds", 7)
    split_long.main([str(word) for word in (*given, *options)])
    return output_dir


def test_parts_of_real_speech_say_what_their_transcripts_say(
    model: AcousticModel, spoken: dict[str, list[tuple[np.ndarray, str]]]
) -> None:
    transcriber = Transcriber(model)

    def errors(utterances: list[tuple[np.ndarray, str]]) -> ErrorCounts:
        heard = transcriber.transcribe_samples([samples for samples, _ in utterances])
        pairs = zip(utterances, heard, strict=True)
        return sum((word_errors(text, transcript.text) for (_, text), transcript in pairs), ErrorCounts())

    for utterances in spoken.values():
        samples, text = joined(utterances)
        parts = split_utterance(model, samples, text, max_seconds=7.0)
        assert " ".join(part.text for part in parts) == text
        assert all(0.5 < part.duration_seconds <= 7.0 and part.confidence > 0.6 for part in parts)
        assert all(before.end_seconds <= after.start_seconds for before, after in pairwise(parts))
        cut = [
            (samples[round(part.start_seconds * SAMPLING_RATE) : round(part.end_seconds * SAMPLING_RATE)], part.text)
            for part in parts
        ]
        assert errors(cut).errors <= errors(utterances).errors + 2


def test_it_cuts_in_the_longest_pause_and_drops_long_silence(
    model: AcousticModel, spoken: dict[str, list[tuple[np.ndarray, str]]]
) -> None:
    (first, first_text), (second, second_text), _ = spoken["1673"]
    silence = np.zeros(3 * SAMPLING_RATE, dtype=np.float32)
    samples = np.concatenate([first, silence, second])
    parts = split_utterance(model, samples, f"{first_text} {second_text}", max_seconds=8.0)
    assert [part.text for part in parts] == [first_text, second_text]
    first_end, second_start = len(first) / SAMPLING_RATE, (len(first) + len(silence)) / SAMPLING_RATE
    assert first_end - 0.5 < parts[0].end_seconds < first_end + EDGE_SECONDS
    assert second_start - EDGE_SECONDS < parts[1].start_seconds < second_start + 0.5


def test_what_cannot_be_aligned_says_why(model: AcousticModel, spoken: dict[str, list[tuple[np.ndarray, str]]]) -> None:
    samples, text = spoken["1673"][0]
    with pytest.raises(UserError, match="the model does not write Ä Ö"):
        split_utterance(model, samples, "ÄÖ", 7.0)
    with pytest.raises(UserError, match="more letters than the audio has frames"):
        split_utterance(model, samples[:3000], text, 7.0)


def test_a_data_set_is_split_once_and_what_is_left_out_is_counted(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = split(data_dir)
    printed = capsys.readouterr().out
    assert "3 utterances longer than 7 s" in printed
    assert "low confidence" in printed and "1, 0.00 h: it has no transcript" in printed
    manifest = output_dir / "manifest.jsonl"
    assert f"--train_subset long.jsonl+{manifest}" in printed
    parts = read_manifest(manifest)
    assert {part.id.rpartition("-")[0] for part in parts} == {"right"}
    assert {part.speaker for part in parts} == {"someone"}
    for part in parts:
        assert len(load_samples(part)) / SAMPLING_RATE == pytest.approx(part.duration_seconds, abs=0.01)
    before = {path: path.read_bytes() for path in output_dir.rglob("*") if path.is_file()}

    with pytest.raises(SystemExit):
        split(data_dir)
    assert "is not empty; choose a new folder, or go on with a run by --resume" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        split(data_dir, "--resume", "--min_confidence", "0.1")
    assert "was begun with other options or data" in capsys.readouterr().err

    progress = output_dir / "splits.jsonl"  # as a kill may leave it: within the line of the second utterance
    head, first, second, *_ = progress.read_bytes().splitlines(keepends=True)
    progress.write_bytes(head + first + second[:20])
    manifest.unlink()
    split(data_dir, "--resume")
    assert {path: path.read_bytes() for path in output_dir.rglob("*") if path.is_file()} == before
