"""Going on with a file: what is finished stays, what was torn goes, what is somebody else's is refused."""

from pathlib import Path

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.recognition.destinations import ManyFiles, OneFile
from lact_asr_model.recognition.output_formats import format_ctm, jsonl_head, jsonl_line, text_head
from lact_asr_model.recognition.transcript import TimedWord, Transcript

NAMES = ["a.wav", "b.wav", "silent.wav", "a.wav", "日本.wav", "caf\udce9\t.wav"]
TEXTS = ["HELLO THERE", "YES", "", "HELLO AGAIN", "NO", "WELL"]


def transcript(text: str) -> Transcript:
    return Transcript(text, [TimedWord(word, 0.5, 1.0, 0.9) for word in text.split()], 1.5, -2.25)


HEADS = {
    "text": [text_head(name) for name in NAMES],
    "jsonl": [jsonl_head(str(number), path=name, reference="R") for number, name in enumerate(NAMES)],
    "ctm": [f"{number} " for number in range(len(NAMES))],
}
PIECES = {
    "text": [text_head(name) + text + "\n" for name, text in zip(NAMES, TEXTS, strict=True)],
    "jsonl": [
        jsonl_line(str(number), transcript(text), path=name, reference="R") + "\n"
        for number, (name, text) in enumerate(zip(NAMES, TEXTS, strict=True))
    ],
    "ctm": [format_ctm(str(number), transcript(text).words) for number, text in enumerate(TEXTS)],
}


def write_all(path: Path, format_name: str, *, resume: bool = False) -> list[int]:
    """Write what is not done; returns what was not."""
    file = OneFile(path, format_name, HEADS[format_name], resume=resume)
    pending = [number for number in range(len(NAMES)) if number not in file.done]
    for number in pending:
        file.write(number, PIECES[format_name][number])
    file.close()
    return pending


@pytest.mark.parametrize("format_name", HEADS)
def test_a_file_cut_off_anywhere_is_completed_to_the_very_bytes(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "out"
    write_all(path, format_name)
    content = path.read_bytes()
    sizes = [len(piece.encode("utf-8", "backslashreplace")) for piece in PIECES[format_name]]
    assert len(content) == sum(sizes)
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        pending = write_all(path, format_name, resume=True)
        assert path.read_bytes() == content, length
        finished = [number for number in range(len(NAMES)) if sum(sizes[: number + 1]) <= length]
        if format_name != "ctm":  # of which the last one is done again, and those without words
            assert pending == [number for number in range(len(NAMES)) if number not in finished]


@pytest.mark.parametrize("format_name", HEADS)
@pytest.mark.parametrize(
    "foreign", ["dear diary\n", "dear diary", "ID3\4\0\n\n\xff", "z.wav\tHELLO\n", '{"id": "0", "hyp": "X"}\n', "\n"]
)
def test_somebody_elses_file_is_refused_and_stays(tmp_path: Path, format_name: str, foreign: str) -> None:
    path = tmp_path / "out"
    for content in (foreign.encode("latin-1"), PIECES[format_name][0].encode() + foreign.encode("latin-1")):
        path.write_bytes(content)
        with pytest.raises(UserError, match="out: is not a part of these transcripts in this format"):
            OneFile(path, format_name, HEADS[format_name], resume=True)
        assert path.read_bytes() == content


def test_other_references_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_all(path, "jsonl")
    heads = [jsonl_head(str(number), path=name, reference="S") for number, name in enumerate(NAMES)]
    with pytest.raises(UserError, match="is not a part of these transcripts"):
        OneFile(path, "jsonl", heads, resume=True)


def test_one_recording_more_often_than_it_is_given_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text(PIECES["text"][0] * 3)
    with pytest.raises(UserError, match="is not a part of these transcripts"):
        OneFile(path, "text", HEADS["text"], resume=True)


def test_the_text_of_a_single_recording_is_done_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("HELLO\n")
    assert OneFile(path, "text", [""], resume=True).done == {0}
    for content in ("HELL", "HELLO\nHELLO\n", "HELLO\nHELL"):
        path.write_text(content)
        with pytest.raises(UserError, match="is not a part of these transcripts"):
            OneFile(path, "text", [""], resume=True)


def test_nothing_is_opened_before_the_first_transcript(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old\n")
    file = OneFile(path, "text", HEADS["text"], resume=False)
    assert path.read_text() == "old\n"
    file.write(1, PIECES["text"][1])
    assert path.read_text() == PIECES["text"][1]


def test_a_file_to_overwrite_stays_where_nothing_came(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old\n")
    OneFile(path, "text", HEADS["text"], resume=False).close()
    assert path.read_text() == "old\n"
    OneFile(tmp_path / "new", "text", HEADS["text"], resume=False).close()
    assert (tmp_path / "new").read_text() == ""


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    first, second, third = (OneFile(path, "text", HEADS["text"], resume=False) for _ in range(3))
    first.write(0, PIECES["text"][0])
    with pytest.raises(UserError, match="out: another run is writing to it"):
        second.write(1, PIECES["text"][1])
    first.close()
    with pytest.raises(UserError, match="out: has changed meanwhile, so it is left alone"):
        third.write(1, PIECES["text"][1])
    assert path.read_text() == PIECES["text"][0]


def test_files_that_are_there_are_done(tmp_path: Path) -> None:
    paths = {0: tmp_path / "x" / "0.srt", 2: tmp_path / "2.srt"}
    files = ManyFiles(str(tmp_path), paths, resume=True)
    files.write(0, "first")
    assert paths[0].read_text() == "first"
    assert ManyFiles(str(tmp_path), paths, resume=True).done == {0}
    assert ManyFiles(str(tmp_path), paths, resume=False).done == set()
