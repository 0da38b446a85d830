"""Live captions from repeated recognition of the last seconds: which words are certain, and where the window is cut."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.recognition.transcript import TimedWord

_LONGEST_MARGIN_SECONDS = 0.25  # between a cut and the words beside it
_END_MARGIN_SECONDS = 0.08  # by which the next pass may hear the last word later
_UNSETTLED_SECONDS = 1.0  # at the end of the window, where words may still come up


@dataclass(frozen=True)
class Captions:
    """What a pass has brought: words that are stable from now on, and those after them, which may still change."""

    stable: list[TimedWord]
    tail: list[TimedWord]


class CaptionWindow:
    """The audio that is recognised again and again, and the words that are known of it.

    A word is stable as soon as two passes, one after the other, agree on it and on all before it (Liu, Spanakis and
    Niehues 2020, arXiv:2005.11185: local agreement). Words that are stable stay in the window as context, until it is
    cut between two of them. A word that the passes cannot agree on is taken as it is when it is old enough.

        rest = window.append(samples)
        if window.is_due:
            captions = window.take(recognize(window.samples).words)

    Args:
        step_seconds: of new audio until the next pass.
        context_seconds: of stable words that a cut leaves before the others.
        patience_seconds: after which a word is taken as it is.
        max_seconds: longest window.
    """

    def __init__(
        self,
        step_seconds: float = 1.0,
        context_seconds: float = 4.0,
        patience_seconds: float = 4.0,
        max_seconds: float = 15.0,
    ) -> None:
        self._step_samples = round(step_seconds * SAMPLING_RATE)
        self._max_samples = round(max_seconds * SAMPLING_RATE)
        self._context_seconds = context_seconds
        self._patience_seconds = patience_seconds
        self.samples = np.zeros(0, dtype=np.float32)
        self._start = 0  # of the window in the stream, in samples
        self._num_new = 0
        self._stable_until_seconds = 0.0
        self._previous: list[TimedWord] = []  # what the last pass heard after the stable words

    @property
    def end_seconds(self) -> float:
        """How much of the stream has been appended."""
        return (self._start + len(self.samples)) / SAMPLING_RATE

    @property
    def is_due(self) -> bool:
        """Whether there is enough new audio for a pass."""
        return self._num_new >= self._step_samples or len(self.samples) == self._max_samples

    def append(self, samples: np.ndarray) -> np.ndarray:
        """Add float32 [samples] at 16 kHz; gives back what does not fit in before the next pass."""
        fitting = samples[: self._max_samples - len(self.samples)]
        self.samples = np.concatenate([self.samples, fitting])
        self._num_new += len(fitting)
        return samples[len(fitting) :]

    def take(self, words: Sequence[TimedWord], *, is_last: bool = False) -> Captions:
        """Compare a pass over `samples`, with times in these, with the one before; `is_last`: nothing follows.

        Times of the result are those of the stream.
        """
        heard = self._in_stream(words)
        fresh = [word for word in heard if _middle(word) > self._stable_until_seconds]
        num_old = sum(word.end_seconds < self.end_seconds - self._patience_seconds for word in fresh)
        num_stable = len(fresh) if is_last else max(_num_agreed(fresh, self._previous), num_old)
        silent_until_seconds = self._silent_until_seconds(fresh[num_stable:], self._previous[num_stable:])
        self._num_new = 0
        self._settle(fresh, num_stable)
        self._cut_before(max(silent_until_seconds, self._stable_until_seconds) - self._context_seconds, heard)
        longest = self._max_samples - self._step_samples
        if len(self.samples) > longest:  # a word without end
            self._cut_at(self.end_seconds - longest / SAMPLING_RATE)
        return Captions(fresh[:num_stable], fresh[num_stable:])

    def _in_stream(self, words: Sequence[TimedWord]) -> list[TimedWord]:
        start = self._start / SAMPLING_RATE
        return [
            replace(word, start_seconds=start + word.start_seconds, end_seconds=start + word.end_seconds)
            for word in words
        ]

    def _settle(self, fresh: Sequence[TimedWord], num_stable: int) -> None:
        """Make the first of the fresh words stable; the next pass is to find the same border before the others."""
        self._previous = list(fresh[num_stable:])
        if num_stable:
            border = fresh[num_stable - 1].end_seconds
            gap = fresh[num_stable].start_seconds - border if self._previous else 2 * _END_MARGIN_SECONDS
            self._stable_until_seconds = border + max(gap, 0.0) / 2

    def _silent_until_seconds(self, *passes: Sequence[TimedWord]) -> float:
        """Up to where neither this pass nor the last one hears another word."""
        last_end_seconds = self.end_seconds - self._num_new / SAMPLING_RATE
        return min([last_end_seconds - _UNSETTLED_SECONDS, *(words[0].start_seconds for words in passes if words)])

    def _cut_before(self, latest_seconds: float, heard: Sequence[TimedWord]) -> None:
        """Cut the window at the last place up to `latest_seconds` that lies between words."""
        start_seconds = self._start / SAMPLING_RATE
        ends = [start_seconds, *(word.end_seconds for word in heard)]
        starts = [*(word.start_seconds for word in heard), self.end_seconds]
        best_seconds = start_seconds
        for gap_start, gap_end in zip(ends, starts, strict=True):
            margin = min(_LONGEST_MARGIN_SECONDS, max(gap_end - gap_start, 0.0) / 2)
            if gap_start + margin <= latest_seconds:
                best_seconds = max(best_seconds, min(gap_end - margin, latest_seconds))
        self._cut_at(best_seconds)

    def _cut_at(self, seconds: float) -> None:
        num_cut = round(seconds * SAMPLING_RATE) - self._start
        self.samples = self.samples[num_cut:].copy()
        self._start += num_cut


def caption(
    chunks: Iterable[np.ndarray], recognize: Callable[[np.ndarray], Sequence[TimedWord]], window: CaptionWindow
) -> Iterator[Captions]:
    """The captions of audio that arrives in chunks, float32 [samples]; the last ones leave no tail.

    recognize: words of [samples], with times in these.
    """
    for chunk in chunks:
        while len(chunk):
            chunk = window.append(chunk)
            if window.is_due:
                yield window.take(recognize(window.samples))
    yield window.take(recognize(window.samples), is_last=True)


def _middle(word: TimedWord) -> float:
    return (word.start_seconds + word.end_seconds) / 2


def _num_agreed(words: Sequence[TimedWord], others: Sequence[TimedWord]) -> int:
    num_agreed = 0
    for word, other in zip(words, others, strict=False):
        if word.word != other.word:
            break
        num_agreed += 1
    return num_agreed
