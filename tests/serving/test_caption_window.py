"""Live captions with a recogniser that hears perfectly what lies whole in the window, and nonsense at its borders."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lact_asr_model.recognition.transcript import TimedWord
from lact_asr_model.serving.caption_window import Captions, CaptionWindow, caption
from lact_asr_model.serving.pcm import PcmDecoder

RATE = 16000
Speech = list[tuple[str, float, float]]


class Recogniser:
    """Knows what is said when; the audio is its own clock: each sample is its number in the stream."""

    def __init__(self, speech: Speech, jitter_seconds: float = 0.0) -> None:
        self.speech = speech
        self.jitter_seconds = jitter_seconds
        self.longest_seconds = 0.0
        self.num_passes = 0

    def __call__(self, samples: np.ndarray) -> list[TimedWord]:
        self.longest_seconds = max(self.longest_seconds, len(samples) / RATE)
        self.num_passes += 1
        if not len(samples):
            return []
        start, end = float(samples[0]) / RATE, (float(samples[-1]) + 1) / RATE
        heard = []
        for word, first, last in self.speech:
            if last <= start or first >= end:
                continue
            is_whole = first >= start and last <= end
            shift = self.jitter_seconds * (-1) ** self.num_passes
            heard.append(
                TimedWord(
                    word if is_whole else f"half-{word}-{self.num_passes}",
                    max(first + shift, start) - start,
                    min(last + shift, end) - start,
                    1.0,
                )
            )
        return heard


def run(
    speech: Speech, seconds: float, chunk_seconds: float = 0.1, jitter_seconds: float = 0.0
) -> tuple[list[Captions], Recogniser]:
    recogniser = Recogniser(speech, jitter_seconds)
    stream = np.arange(round(seconds * RATE), dtype=np.float64)
    chunks = np.array_split(stream, max(round(seconds / chunk_seconds), 1))
    window = CaptionWindow()
    window.samples = np.zeros(0, dtype=np.float64)  # float32 could not count so far
    return list(caption(chunks, recogniser, window)), recogniser


def stable(captions: list[Captions]) -> list[str]:
    return [word.word for part in captions for word in part.stable]


@st.composite
def speeches(draw: st.DrawFn) -> Speech:
    """Words of 0.1 to 1.5 s with pauses of 0.05 to 20 s between them."""
    speech = []
    time_seconds = 0.0
    for number in range(draw(st.integers(0, 30))):
        time_seconds += draw(st.one_of(st.floats(0.05, 0.4), st.floats(0.4, 20)))
        length_seconds = draw(st.floats(0.1, 1.5))
        speech.append((f"word{number}", time_seconds, time_seconds + length_seconds))
        time_seconds += length_seconds
    return speech


@settings(max_examples=25, deadline=None)
@given(
    speech=speeches(), chunk_seconds=st.sampled_from([0.02, 0.3, 2.0, 40.0]), jitter_seconds=st.sampled_from([0, 0.02])
)
def test_no_word_is_lost_or_doubled(speech: Speech, chunk_seconds: float, jitter_seconds: float) -> None:
    seconds = (speech[-1][2] if speech else 3.0) + 0.5
    captions, recogniser = run(speech, seconds, chunk_seconds, jitter_seconds)
    assert stable(captions) == [word for word, _, _ in speech]
    assert recogniser.longest_seconds <= 15.0
    assert captions[-1].tail == []


def test_times_are_those_of_the_stream() -> None:
    speech = [(f"word{number}", number * 0.7 + 0.2, number * 0.7 + 0.6) for number in range(60)]
    captions, _ = run(speech, 43)
    words = [word for part in captions for word in part.stable]
    times = [(word.start_seconds, word.end_seconds) for word in words]
    np.testing.assert_allclose(times, [(first, last) for _, first, last in speech], atol=1e-3)


def test_a_word_is_stable_when_two_passes_agree() -> None:
    speech = [("one", 0.2, 0.6), ("two", 1.4, 1.8)]
    captions, _ = run(speech, 4.0, chunk_seconds=0.5)
    assert [[word.word for word in part.stable] for part in captions] == [[], ["one"], ["two"], [], []]
    assert [[word.word for word in part.tail] for part in captions] == [["one"], ["two"], [], [], []]


def test_words_that_never_agree_are_taken_when_they_are_old() -> None:
    class Restless(Recogniser):
        def __call__(self, samples: np.ndarray) -> list[TimedWord]:
            words = super().__call__(samples)
            return [replace(word, word=f"{word.word}-{self.num_passes}") for word in words]

    speech = [(f"word{number}", number * 0.7 + 0.2, number * 0.7 + 0.6) for number in range(60)]
    recogniser = Restless(speech)
    stream = np.arange(43 * RATE, dtype=np.float64)
    window = CaptionWindow()
    window.samples = np.zeros(0, dtype=np.float64)
    captions = list(caption(np.array_split(stream, 100), recogniser, window))
    words = stable(captions)
    assert all(len(part.tail) < 10 for part in captions)
    assert [word.split("-")[0] for word in words] == [word for word, _, _ in speech]
    assert recogniser.longest_seconds <= 15.0


def test_long_silence_costs_short_passes() -> None:
    _, recogniser = run([("end", 119.0, 119.5)], 120)
    assert recogniser.longest_seconds <= 7


def test_samples_may_be_spread_over_pieces() -> None:
    content = np.array([0, 1, -1, 32767, -32768], dtype="<i2").tobytes()
    decoder = PcmDecoder()
    pieces = [decoder.decode(content[start : start + 3]) for start in range(0, len(content), 3)]
    np.testing.assert_array_equal(
        np.concatenate(pieces), np.array([0, 1, -1, 32767, -32768], dtype=np.float32) / np.float32(32768)
    )
