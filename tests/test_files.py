"""Output files: whole or in pieces, never in the place of something else."""

import os
import resource
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.files import (
    GrowingFile,
    check_output_file,
    check_standard_output,
    complete_lines,
    encode,
    fitting_name,
    identities,
    is_stream,
    write_atomically,
)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@contextmanager
def no_room() -> Iterator[None]:
    """Inside the `with`, files of this process, such as a log of the tests, can have at most 1000 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def read_in_background(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """What comes out of a pipe, once the thread has ended."""
    content: list[bytes] = []
    thread = threading.Thread(target=lambda: content.append(path.read_bytes()))
    thread.start()
    return thread, content


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"
    write_atomically(path, "first\n")
    assert path.read_text() == "first\n"

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "second\n")
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_atomically(path, "first\n")
    with no_room(), pytest.raises(UserError, match="out.txt: cannot be written .File too large"):
        write_atomically(path, "x" * 2000)
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "target"
    link.symlink_to(target)
    write_atomically(link, "text\n")
    assert link.is_symlink()
    assert target.read_text() == "text\n"
    file = GrowingFile(link)
    file.append("longer text\n")
    file.close()
    assert link.is_symlink()
    assert target.read_text() == "longer text\n"


def test_a_pipe_is_written_to(pipe: Path) -> None:
    thread, content = read_in_background(pipe)
    write_atomically(pipe, "whole\n")
    thread.join()
    assert content == [b"whole\n"]
    thread, content = read_in_background(pipe)
    file = GrowingFile(pipe)
    file.append("piece\n")
    file.append("by piece\n")
    file.close()
    thread.join()
    assert content == [b"piece\nby piece\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device() -> None:
    write_atomically(Path("/dev/null"), "text\n")
    file = GrowingFile(Path("/dev/null"))
    file.append("text\n")
    file.close()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(UserError, match="/dev/full: cannot be written .No space left on device"):
        write_atomically(Path("/dev/full"), "text\n")
    with pytest.raises(UserError, match="/dev/full: cannot be written .No space left on device"):
        GrowingFile(Path("/dev/full")).append("text\n")


def test_an_open_file_is_added_to(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        print("before", file=log, flush=True)
        path = Path(f"/dev/fd/{log.fileno()}")
        assert is_stream(path)
        write_atomically(path, "after\n")
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_a_growing_file_ends_with_a_whole_piece_even_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    file = GrowingFile(path)
    file.append("a" * 600)
    with no_room(), pytest.raises(UserError, match="out.txt: cannot be written .File too large.; free some space"):
        file.append("b" * 600)  # 400 bytes of it would fit
    assert path.read_text() == "a" * 600
    file.append("c" * 400)
    assert path.read_text() == "a" * 600 + "c" * 400


def test_a_growing_file_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("kept\ntorn")
    file = GrowingFile(path, len("kept\n"))
    file.append("new\n")
    assert path.read_text() == "kept\nnew\n"


def test_a_reader_that_leaves_is_a_broken_pipe(pipe: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = GrowingFile(pipe)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        file.append("text\n")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    for path, message in {
        tmp_path: "it is a folder",
        tmp_path / "no" / "file.txt": "its folder does not exist",
        tmp_path / ("x" * 300): "File name too long",
    }.items():
        with pytest.raises(UserError, match=message):
            check_output_file(path, {})
        with pytest.raises(UserError, match="cannot be written"):
            GrowingFile(path)
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "no" / "file.txt", "")
    check_output_file(tmp_path / "file.txt", {})


def test_an_input_is_never_an_output_by_whatever_name(tmp_path: Path) -> None:
    recording = tmp_path / "a.wav"
    recording.write_bytes(b"RIFF\0")
    (tmp_path / "link.txt").symlink_to(recording)
    (tmp_path / "hard.txt").hardlink_to(recording)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("a.wav", "link.txt", "hard.txt", "folder/a.wav"):
        for allowed in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(UserError, match="is the input"):
                check_output_file(tmp_path / name, identities([recording]), **allowed)


def test_an_existing_file_needs_leave(tmp_path: Path) -> None:
    notes, empty, recording = (tmp_path / name for name in ("notes.txt", "empty.txt", "other.mp3"))
    notes.write_text("mine\n")
    empty.touch()
    recording.write_bytes(b"ID3\4\0\0")
    check_output_file(empty, {})
    with pytest.raises(UserError, match="notes.txt: exists; give --overwrite to replace it, --resume to go on"):
        check_output_file(notes, {})
    check_output_file(notes, {}, overwrite=True)
    check_output_file(notes, {}, resume=True)
    with pytest.raises(UserError, match="other.mp3: is not a text file, so it is not overwritten"):
        check_output_file(recording, {}, overwrite=True)


def test_stdout_may_not_be_an_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = identities(["/dev/fd/1"])
    with pytest.raises(UserError, match="standard output: is the input /dev/fd/1"):
        check_standard_output(captured)
    check_standard_output(identities([tmp_path]))
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match="standard output: is closed; give --output"):
        check_standard_output({})


def test_names_that_are_not_utf8_become_escapes_that_json_reads() -> None:
    name = os.fsdecode(b"caf\xe9")
    assert encode(f'"{name} \N{SNOWMAN}"') == b'"caf\\udce9 \xe2\x98\x83"'


def test_complete_lines_end_with_the_last_line_break() -> None:
    assert complete_lines(b"a\nb\nc") == b"a\nb\n"
    assert complete_lines(b"abc") == b""


def test_long_names_are_shortened_to_different_ones() -> None:
    assert fitting_name("a", ".txt") == "a.txt"
    assert fitting_name("x" * 251, ".txt") == "x" * 251 + ".txt"
    names = [fitting_name("x" * 251 + end, ".txt") for end in "ab"] + [fitting_name("日" * 85, ".jsonl")]
    assert len(set(names)) == 3
    for name in names:
        assert 250 <= len(os.fsencode(name)) <= 255
        assert name.isprintable()
