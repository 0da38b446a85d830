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
        order = in_batch_order(window, durations_seconds, transcriber.batch_size)
        results = transcriber.transcribe_files((sources[index] for index in order), strict=strict)
        numbered: Iterable[tuple[int, FileResult]] = zip(order, results, strict=True)
        if order != window:
            numbered = sorted(numbered, key=lambda pair: pair[0])
        yield from ((index, result) for index, result in numbered if index not in done)


def in_batch_order(window: list[int], durations_seconds: Sequence[float] | None, batch_size: int) -> list[int]:
    """The numbers of a window, the longest recordings first if that makes a difference and durations are known."""
    if durations_seconds is None or batch_size == 1:
        return window
    return sorted(window, key=lambda index: -durations_seconds[index])


def windows(
    num_recordings: int, done: Collection[int], batch_size: int, *, is_shared: bool = False
) -> Iterator[list[int]]:
    """The numbers of the recordings to recognise together; all that are not done, and in one window others too.

    is_shared: windows are finished in any order, by several workers. Any of them may then be one in which an earlier
    run ended, and those for batches of one have one recording.
    """
    size = _BATCHES_PER_WINDOW * batch_size if batch_size > 1 else 1 if is_shared else num_recordings
    last_done = max(done, default=-1)
    for start in range(0, num_recordings, max(size, 1)):
        window = list(range(start, min(start + size, num_recordings)))
        pending = [index for index in window if index not in done]
        is_where_it_ended = batch_size > 1 and (is_shared or last_done in window)
        if pending:
            yield window if is_where_it_ended else pending
