"""Recognising what an earlier run left undone, in the same batches as a run that nobody stopped."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.recognition.transcript import AudioSource, FileResult

_BATCHES_PER_WINDOW = 8


def recognize_pending(
    transcriber: "Transcriber",
    sources: "Sequence[AudioSource]",
    done: Collection[int],
    durations_seconds: Sequence[float] | None = None,
    *,
    strict: bool = False,
) -> Iterator[tuple[int, "FileResult"]]:
    """The number and the result of every recording that is not done, in their order, as soon as they are known.

    What a recording gives depends, in the last digits, on what is in its batch. Batches of several are therefore made
    within windows of 8 batches, and the window in which an earlier run ended is recognised again as a whole.

    Args:
        transcriber: what recognises.
        sources: all recordings.
        done: numbers of those that an earlier run has transcribed.
        durations_seconds: if given, the longest of a window come first, which makes for little padding.
        strict: refuse damaged and cut files.
    """
    done = frozenset(done)
    for window in windows(len(sources), done, transcriber.batch_size):
        order = window
        if durations_seconds is not None and transcriber.batch_size > 1:
            order = sorted(window, key=lambda index: -durations_seconds[index])
        results = transcriber.transcribe_files((sources[index] for index in order), strict=strict)
        numbered: Iterable[tuple[int, FileResult]] = zip(order, results, strict=True)
        if order != window:
            numbered = sorted(numbered, key=lambda pair: pair[0])
        yield from ((index, result) for index, result in numbered if index not in done)


def windows(num_recordings: int, done: Collection[int], batch_size: int) -> Iterator[list[int]]:
    """The numbers of the recordings to recognise together; all that are not done, and in one window others too."""
    size = num_recordings if batch_size == 1 else _BATCHES_PER_WINDOW * batch_size
    last_done = max(done, default=-1)
    for start in range(0, num_recordings, max(size, 1)):
        window = list(range(start, min(start + size, num_recordings)))
        pending = [index for index in window if index not in done]
        is_where_it_ended = batch_size > 1 and last_done in window
        if pending:
            yield window if is_where_it_ended else pending
