"""Utterances under conditions, and other utterances as conditions of their own."""

import json
from pathlib import Path

import numpy as np
import pytest

from lact_asr_model.data.conditions import parse_conditions
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.tasks import make_tasks

CONDITIONS = parse_conditions("clean,gaussian:0.1")


def test_extra_subsets_are_conditions_that_change_nothing(librispeech_dir: Path) -> None:
    tasks = make_tasks(
        CONDITIONS, "dev-tiny", "small=test-tiny, both=test-tiny+dev-tiny", data_dir=str(librispeech_dir)
    )
    assert [task.name for task in tasks] == ["clean", "gaussian:0.1", "small", "both"]
    assert [len(task.utterances) for task in tasks] == [3, 3, 2, 5]
    assert {utterance.text for utterance in tasks[2].utterances} == {"A BEE", "DEAD CAB"}
    samples = np.ones(100, dtype=np.float32)
    np.testing.assert_array_equal(tasks[2].condition(samples, np.random.default_rng(0)), samples)


def test_references_can_be_spelled_out_and_their_losses_are_told(
    librispeech_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audio, *_) = sorted(librispeech_dir.rglob("*.wav"))
    (tmp_path / "digits.jsonl").write_text(json.dumps({"audio_filepath": str(audio), "text": "paid 50%"}))
    (task,) = make_tasks(CONDITIONS[:1], str(tmp_path / "digits.jsonl"))
    assert task.utterances[0].text == "PAID"
    assert "1 words in 1 of 1 transcripts lose digits" in capsys.readouterr().err
    pytest.importorskip("inflect", reason="the normalize extra is not installed")
    (task,) = make_tasks(CONDITIONS[:1], str(tmp_path / "digits.jsonl"), normalize=True)
    assert task.utterances[0].text == "PAID FIFTY PERCENT"
    assert capsys.readouterr().err == ""


def test_the_number_of_utterances_is_that_of_each_subset(librispeech_dir: Path) -> None:
    tasks = make_tasks(CONDITIONS[:1], "dev-tiny", "a=test-tiny", data_dir=str(librispeech_dir), max_utterances=1)
    assert [len(task.utterances) for task in tasks] == [1, 1]


@pytest.mark.parametrize(
    ("extra_subsets", "message"),
    [
        ("", "'': is not NAME=SUBSET"),
        ("test-tiny", "is not NAME=SUBSET"),
        ("a=", "is not NAME=SUBSET"),
        ("noise:5=test-tiny", "is not NAME=SUBSET"),
        ("clean=test-tiny", "'clean' is the name of another condition"),
        ("a=test-tiny,a=dev-tiny", "'a' is the name of another condition"),
        ("a=test-huge", "no LibriSpeech subset 'test-huge'"),
    ],
)
def test_mistakes_are_named(librispeech_dir: Path, extra_subsets: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_tasks(CONDITIONS[1:], "dev-tiny", extra_subsets, data_dir=str(librispeech_dir))


def test_an_utterance_without_transcript_is_refused(librispeech_dir: Path, tmp_path: Path) -> None:
    audio_path = next(librispeech_dir.rglob("*.flac"))
    (tmp_path / "silent.jsonl").write_text(json.dumps({"audio_filepath": str(audio_path), "id": "x"}) + "\n")
    with pytest.raises(UserError, match="utterance x: it has no transcript"):
        make_tasks(CONDITIONS, str(tmp_path / "silent.jsonl"))


def test_a_few_utterances_are_spread_evenly_over_the_subset(librispeech_dir: Path) -> None:
    (whole,) = make_tasks(CONDITIONS[:1], "train-tiny", data_dir=str(librispeech_dir))
    for number, places in ((3, [0, 2, 4]), (7, list(range(7))), (20, list(range(7)))):
        (task,) = make_tasks(CONDITIONS[:1], "train-tiny", data_dir=str(librispeech_dir), max_utterances=number)
        assert list(task.utterances) == [whole.utterances[place] for place in places]
