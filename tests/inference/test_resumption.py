"""What is recognised again, and in which company."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lact_asr_model.recognition.resumption import recognize_pending, windows
from lact_asr_model.recognition.transcript import AudioSource


class Recorder:
    """In the place of a transcriber: notes what it is asked for, together and one by one."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.calls: list[list[str]] = []
        self.num_taken = 0

    def transcribe_files(self, sources: Iterable[AudioSource], *, strict: bool) -> Iterator[SimpleNamespace]:
        self.calls.append([])
        for source in sources:
            self.calls[-1].append(source.path.name)
            yield SimpleNamespace(path=source.path)


SOURCES = [AudioSource(Path(str(number))) for number in range(40)]


def test_one_at_a_time_does_only_what_is_not_done_and_gives_each_at_once() -> None:
    recorder = Recorder(1)
    results = recognize_pending(recorder, SOURCES, {0, 1, 2, 5})
    assert next(results)[0] == 3
    assert recorder.calls == [["3"]]
    assert [index for index, _ in results] == [4, *range(6, 40)]


@pytest.mark.parametrize("num_done", [0, 1, 15, 16, 17, 31, 32, 39, 40])
def test_batches_are_those_of_a_run_in_one_piece(num_done: int) -> None:
    whole, resumed = Recorder(2), Recorder(2)
    assert [index for index, _ in recognize_pending(whole, SOURCES, ())] == list(range(40))
    assert [len(call) for call in whole.calls] == [16, 16, 8]
    results = list(recognize_pending(resumed, SOURCES, range(num_done)))
    assert [index for index, _ in results] == list(range(num_done, 40))
    assert all(result.path == SOURCES[index].path for index, result in results)
    assert resumed.calls == [call for call in whole.calls if int(call[-1]) >= num_done]


def test_a_recording_that_failed_is_tried_alone() -> None:
    assert list(windows(40, set(range(40)) - {3, 39}, 2)) == [[3], list(range(32, 40))]


def test_the_longest_of_a_window_come_first_and_results_stay_in_order() -> None:
    durations = [random.Random(number).random() for number in range(40)]
    recorder = Recorder(2)
    assert [index for index, _ in recognize_pending(recorder, SOURCES, (), durations)] == list(range(40))
    for call in recorder.calls:
        assert call == sorted(call, key=lambda name: -durations[int(name)])
    assert recorder.calls[0] != sorted(recorder.calls[0], key=int)
