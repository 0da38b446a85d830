import json
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.recognition.output_formats import (
    format_srt,
    format_vtt,
    jsonl_line,
    make_cues,
)
from lact_asr_model.recognition.transcript import TimedWord, Transcript


def spoken(text: str, start_seconds: float = 0.0, word_seconds: float = 0.3) -> list[TimedWord]:
    """The words of `text`, one after the other without pauses."""
    times = [start_seconds + index * word_seconds for index in range(len(text.split()) + 1)]
    return [TimedWord(word, *times[index : index + 2], 0.9) for index, word in enumerate(text.split())]


def test_srt() -> None:
    words = spoken("HELLO THERE", 0.5, 0.75) + spoken("AFTER AN HOUR", 3725.0425)
    assert format_srt(words) == (
        "1\n00:00:00,500 --> 00:00:02,000\nHELLO THERE\n\n2\n01:02:05,042 --> 01:02:06,042\nAFTER AN HOUR\n\n"
    )


def test_vtt() -> None:
    assert format_vtt(spoken("<unk> & CO", 1.0, 0.5)) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n&lt;unk&gt; &amp; CO\n\n"
    )


def test_no_words() -> None:
    assert format_srt([]) == ""
    assert format_vtt([]) == "WEBVTT\n\n"


def test_a_cue_ends_at_a_pause() -> None:
    cues = make_cues(spoken("ONE TWO", 0.0) + spoken("THREE", 5.0))
    assert [cue.lines for cue in cues] == [["ONE TWO"], ["THREE"]]


words_strategy = st.lists(
    st.tuples(st.text("ABCDEFG'", min_size=1, max_size=30), st.floats(0.02, 2), st.floats(0, 3)), max_size=60
)


@given(words_strategy)
def test_cues_fit_on_the_screen_hold_every_word_and_never_overlap(entries: list[tuple[str, float, float]]) -> None:
    words, time_seconds = [], 0.0
    for text, length, pause in entries:
        words.append(TimedWord(text, time_seconds + pause, time_seconds + pause + length, 0.5))
        time_seconds = words[-1].end_seconds
    cues = make_cues(words)
    assert " ".join(" ".join(cue.lines) for cue in cues) == " ".join(text for text, _, _ in entries)
    for cue in cues:
        assert len(cue.lines) <= 2
        assert all(len(line) <= 42 for line in cue.lines)
        assert 0 < cue.end_seconds - cue.start_seconds <= 7
    assert all(cue.end_seconds <= other.start_seconds for cue, other in pairwise(cues))
    timestamps = re.findall(r"^\d\d:[0-5]\d:[0-5]\d,\d{3} --> \d\d:[0-5]\d:[0-5]\d,\d{3}$", format_srt(words), re.M)
    assert len(timestamps) == len(cues)


def test_a_word_too_long_for_the_screen_stands_alone() -> None:
    cues = make_cues(spoken("A " + "B" * 200 + " C"))
    assert [len(cue.lines) for cue in cues] == [1, 5, 1]
    assert all(len(line) <= 42 for cue in cues for line in cue.lines)


def test_jsonl() -> None:
    transcript = Transcript("HI YOU", spoken("HI YOU"), 1.23456, -3.0, True, [0.5])
    record = json.loads(jsonl_line("a", transcript, reference=""))
    assert record == {
        "id": "a",
        "ref": "",
        "hyp": "HI YOU",
        "duration": 1.235,
        "words": [
            {"word": "HI", "start": 0.0, "end": 0.3, "confidence": 0.9},
            {"word": "YOU", "start": 0.3, "end": 0.6, "confidence": 0.9},
        ],
        "adapted": True,
        "score": -3.0,
    }
    assert json.loads(jsonl_line("a", transcript, path="x/a.wav"))["path"] == "x/a.wav"
