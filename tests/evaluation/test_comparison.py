"""Methods hear the same audio, whatever else runs beside them, and nothing is recognised twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lact_asr_model.data.conditions import parse_condition
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.comparison import corrupt, run, summarize_all, warm_up, weights_digest
from lact_asr_model.evaluation.processes import Processes
from lact_asr_model.evaluation.records import RecordLog
from lact_asr_model.evaluation.summary import format_table
from lact_asr_model.evaluation.tasks import Task
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.recognition.transcript import Transcript

CLEAN, GAUSSIAN, QUIET = map(parse_condition, ("clean", "gaussian:0.1", "gain:-20"))


class Listener:
    """Keeps what it hears and always answers the same."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.heard: list[np.ndarray] = []

    def transcribe_samples(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        self.heard += recordings
        return [Transcript(self.answer, [], len(samples) / 16000, is_adapted=True) for samples in recordings]

    def reset_stream(self) -> None:
        pass


class Counter:
    """A stream: says which recording since the last reset it hears, and fails at a given one of all."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.num_heard = self.num_since_reset = 0

    def transcribe_samples(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        (samples,) = recordings
        if self.num_heard == self.fails_at:
            raise KeyboardInterrupt
        self.num_heard += 1
        self.num_since_reset += 1
        return [Transcript("A" * self.num_since_reset, [], len(samples) / 16000)]

    def reset_stream(self) -> None:
        self.num_since_reset = 0


@pytest.fixture
def utterances(librispeech_dir: Path) -> list[Utterance]:
    return read_utterances("dev-tiny", librispeech_dir)


def test_corruption_depends_on_seed_condition_and_utterance_alone() -> None:
    samples = np.zeros(1000, dtype=np.float32)
    gaussian, louder = parse_condition("gaussian:0.1"), parse_condition("gaussian:0.2")
    first = corrupt(samples, gaussian, "a", seed=0)
    corrupt(samples, louder, "b", seed=0)
    np.testing.assert_array_equal(first, corrupt(samples, gaussian, "a", seed=0))
    others = [corrupt(samples, gaussian, "b", 0), corrupt(samples, gaussian, "a", 1)]
    others.append(corrupt(samples, louder, "a", 0) / 2)
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_a_name_that_is_not_utf_8_has_a_corruption_of_its_own() -> None:
    samples, gaussian = np.zeros(10, dtype=np.float32), parse_condition("gaussian:0.1")
    assert not np.array_equal(corrupt(samples, gaussian, "caf\udce9", 0), corrupt(samples, gaussian, "caf\udce8", 0))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_method_hears_the_same_audio(utterances: list[Utterance], tmp_path: Path, batch_size: int) -> None:
    listeners = {"none": Listener("A"), "ttt": Listener("A")}
    tasks = [Task(CLEAN, utterances), Task(GAUSSIAN, utterances)]
    run(listeners, tasks, RecordLog(tmp_path, {}), batch_size=batch_size)
    alone = {"ttt": Listener("A")}
    run(alone, tasks[1:], RecordLog(tmp_path / "alone", {}), batch_size=batch_size)
    plain, adapted = listeners["none"].heard, listeners["ttt"].heard
    assert len(plain) == len(adapted) == 2 * len(utterances)
    for one, other in zip(plain, adapted, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(plain[len(utterances) :], alone["ttt"].heard, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_are_of_similar_length_but_single_utterances_keep_their_order(
    utterances: list[Utterance], tmp_path: Path, batch_size: int
) -> None:
    durations = [utterance.duration_seconds for utterance in utterances]
    assert durations != sorted(durations, reverse=True)
    listener = Listener("A")
    run({"none": listener}, [Task(CLEAN, utterances)], RecordLog(tmp_path, {}), batch_size=batch_size)
    heard = [len(samples) / 16000 for samples in listener.heard]
    assert heard == pytest.approx(durations if batch_size == 1 else sorted(durations, reverse=True))


def test_a_resumed_run_recognises_only_what_is_missing(utterances: list[Utterance], tmp_path: Path) -> None:
    clean, gaussian = Task(CLEAN, utterances), Task(GAUSSIAN, utterances)
    run({"none": Listener("A")}, [clean], RecordLog(tmp_path, {}))
    listeners = {"none": Listener("changed"), "ttt": Listener("A FACE")}
    log = RecordLog(tmp_path, {})
    run(listeners, [clean, gaussian], log)
    assert len(listeners["none"].heard) == len(utterances)  # the noisy condition only
    assert len(listeners["ttt"].heard) == 2 * len(utterances)
    assert {log["clean", "none", utterance.id].hyp for utterance in utterances} == {"A"}


def test_results_of_other_utterances_are_not_taken_for_these(utterances: list[Utterance], tmp_path: Path) -> None:
    run({"none": Listener("A")}, [Task(CLEAN, utterances)], RecordLog(tmp_path, {}))
    others = [replace(each, text="BED") for each in utterances]
    with pytest.raises(UserError, match="another transcript; give another --output_dir"):
        run({"none": Listener("A")}, [Task(CLEAN, others)], RecordLog(tmp_path, {}))


def test_a_stream_begins_anew_with_every_task_and_with_one_that_was_cut_short(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    tasks = [Task(CLEAN, utterances), Task(GAUSSIAN, utterances)]
    with pytest.raises(KeyboardInterrupt):
        run({"continual": Counter(fails_at=5)}, tasks, RecordLog(tmp_path, {}), streams=["continual"])
    log, listeners = RecordLog(tmp_path, {}), {"none": Listener("A"), "continual": Counter()}
    run(listeners, tasks, log, streams=["continual"])
    assert listeners["continual"].num_heard == 3  # the noisy condition, from its start
    assert len(listeners["none"].heard) == 6
    for task in tasks:
        assert [log[task.name, "continual", each.id].hyp for each in utterances] == ["A", "AA", "AAA"]


def test_a_stream_needs_one_process_and_no_batches(utterances: list[Utterance], tmp_path: Path) -> None:
    for alternative in ({"batch_size": 2}, {"processes": Processes(0, 2)}):
        with pytest.raises(ValueError, match="one process"):
            run({"s": Counter()}, [Task(CLEAN, utterances)], RecordLog(tmp_path, {}), streams=["s"], **alternative)


def test_processes_share_out_everything_once(utterances: list[Utterance], tmp_path: Path) -> None:
    tasks = [Task(CLEAN, utterances), Task(GAUSSIAN, utterances[:2])]
    logs = [RecordLog(tmp_path, {}, rank) for rank in range(3)]
    listeners = [Listener("ABC"[rank]) for rank in range(3)]
    for rank in range(3):
        run({"none": listeners[rank]}, tasks, logs[rank], processes=Processes(rank, 3))
    assert [len(listener.heard) for listener in listeners] == [2, 2, 1]
    again = Listener("A")
    run({"none": again}, tasks, RecordLog(tmp_path, {}), processes=Processes(1, 2))  # as many as there may be now
    assert again.heard == []


def test_warming_up_is_a_second_of_signal() -> None:
    listeners = [Listener("A"), Listener("B")]
    warm_up(listeners)
    for listener in listeners:
        (samples,) = listener.heard
        assert len(samples) == 16000
        assert samples.dtype == np.float32
        assert np.ptp(samples) > 0.1


def test_summaries_are_of_each_condition_and_of_all_shifted_ones(utterances: list[Utterance], tmp_path: Path) -> None:
    log = RecordLog(tmp_path, {})
    others = Task(replace(CLEAN, name="others"), utterances[:1])
    tasks = [Task(CLEAN, utterances), Task(GAUSSIAN, utterances), Task(QUIET, utterances), others]
    listeners = {"none": Listener("A"), "ttt": Listener("A FACE")}  # of A FACE, BAD BED, CAFE: 4 errors of 5 each
    run(listeners, tasks, log)
    by_task, shifted = summarize_all(log, tasks, list(listeners), seed=0)
    assert [(row["condition"], row["method"]) for row in by_task] == [
        (task.name, method) for task in tasks for method in listeners
    ]
    assert by_task[1]["wer_difference"] == pytest.approx(by_task[1]["wer"] - by_task[0]["wer"])
    assert [(row["condition"], row["method"]) for row in shifted] == [("mean of shifted", name) for name in listeners]
    assert [row["wer"] for row in shifted] == pytest.approx([(4 / 5 + 4 / 5 + 1 / 2) / 3, (4 / 5 + 4 / 5 + 0) / 3])
    assert shifted[1]["num_adapted"] == shifted[1]["num_recognitions"] == 2 * len(utterances) + 1
    assert summarize_all(log, tasks[:2], list(listeners), seed=0)[1] == []  # one of them is no mean

    reversed_by_task, _ = summarize_all(log, tasks, list(listeners), seed=0, baseline="ttt")
    assert reversed_by_task[0]["baseline"] == "ttt" and "baseline" not in reversed_by_task[1]
    assert reversed_by_task[0]["wer_difference"] == pytest.approx(-by_task[1]["wer_difference"])
    assert "minus ttt (95 %)" in format_table(reversed_by_task)


def test_texts_are_normalised_alike(utterances: list[Utterance], tmp_path: Path) -> None:
    log = RecordLog(tmp_path, {})
    run({"none": Listener("a café, ' ok")}, [Task(CLEAN, utterances[:1])], log)
    assert log["clean", "none", utterances[0].id].hyp == "A CAFE OK"


def test_the_digest_tells_models_apart(tiny_model: HybridASRForCTC) -> None:
    before = weights_digest(tiny_model)
    assert before == weights_digest(tiny_model)
    with torch.no_grad():
        tiny_model.lm_head.bias[0] += 1e-6
    assert before != weights_digest(tiny_model)
