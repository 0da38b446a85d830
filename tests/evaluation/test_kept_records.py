"""What an earlier run left is taken for this one's only if it is of the same utterances."""

from dataclasses import replace
from pathlib import Path

import pytest

from lact_asr_model.data.conditions import parse_condition
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.kept_records import check_kept
from lact_asr_model.evaluation.records import Record, RecordLog
from lact_asr_model.evaluation.tasks import Task

CLEAN = parse_condition("clean")


@pytest.fixture
def utterances(librispeech_dir: Path) -> list[Utterance]:
    return read_utterances("train-tiny", librispeech_dir)


@pytest.fixture
def log(tmp_path: Path) -> RecordLog:
    return RecordLog(tmp_path, {})


def keep(log: RecordLog, utterances: list[Utterance]) -> None:
    for each in utterances:
        log.append(Record(each.id, "clean", "continual", each.text or "", "A", each.duration_seconds, 0.1))


def test_records_of_the_same_utterances_are_gone_on_with(log: RecordLog, utterances: list[Utterance]) -> None:
    keep(log, utterances[:2])
    check_kept(log, [Task(CLEAN, utterances)], ["continual", "none"], ["continual"])


def test_another_transcript_is_another_utterance(log: RecordLog, utterances: list[Utterance]) -> None:
    keep(log, utterances)
    first, second = utterances[:2]
    other = replace(second, id=first.id, text="BED")
    with pytest.raises(UserError, match=f"another utterance {first.id}.*; give another --output_dir"):
        check_kept(log, [Task(CLEAN, [other])], ["continual"], [])
    check_kept(log, [Task(CLEAN, [other])], ["none"], [])  # of which nothing was kept


def test_a_part_of_a_stream_is_another_stream(log: RecordLog, utterances: list[Utterance]) -> None:
    keep(log, utterances)
    for other in (utterances[::2], utterances[::-1]):
        with pytest.raises(UserError, match="'continual' from a stream of other utterances; give another --output_dir"):
            check_kept(log, [Task(CLEAN, other)], ["continual"], ["continual"])
        check_kept(log, [Task(CLEAN, other)], ["continual"], [])
