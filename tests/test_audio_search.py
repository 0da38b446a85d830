"""Finding audio in folders and by globs, among everything else that lies there."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.audio_search import find_audio_files, search_audio_files
from lact_asr_model.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ["b.wav", "a.FLAC", "notes.txt", "deep/er/c.mp3", "odd[1].wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found_names(folder: Path, *patterns: str) -> list[str]:
    found = find_audio_files(str(folder / pattern) for pattern in patterns)
    return [path.relative_to(folder).as_posix() for path in found]


def test_folders_are_searched_recursively_and_sorted(folder: Path) -> None:
    assert found_names(folder, "") == ["a.FLAC", "b.wav", "deep/er/c.mp3", "odd[1].wav"]


def test_globs_files_and_their_order(folder: Path) -> None:
    assert found_names(folder, "*.wav") == ["b.wav", "odd[1].wav"]
    assert found_names(folder, "**/*.mp3", "b.wav", "*.wav") == ["deep/er/c.mp3", "b.wav", "odd[1].wav"]
    assert found_names(folder, "odd[1].wav") == ["odd[1].wav"]
    assert found_names(folder, "notes.txt") == ["notes.txt"]


@pytest.mark.parametrize("pattern", ["none.wav", "*.ogg", "*.txt"])
def test_pattern_without_a_match(folder: Path, pattern: str) -> None:
    with pytest.raises(UserError, match="no such audio file"):
        found_names(folder, "b.wav", pattern)


def test_folder_without_audio(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no audio files"):
        found_names(folder, "empty")


def test_audio_of_unknown_suffix_is_found_by_its_content(tmp_path: Path, write_media) -> None:
    write_media(tmp_path / "a.m4a", np.zeros(1600), 16000, "aac")
    (tmp_path / "a.m4a").rename(tmp_path / "download")
    (tmp_path / "notes.ts").write_text("const x: number = 1;\n" * 200)
    found = search_audio_files([tmp_path])
    assert found.paths == [tmp_path / "download"]
    assert found.left_out == [(tmp_path / "notes.ts", "no audio")]
    assert search_audio_files([f"{tmp_path}/down*"]).paths == [tmp_path / "download"]


def test_everything_that_is_left_out_is_named_and_none_is_fatal(tmp_path: Path) -> None:
    for name in ("good.wav", ".hidden.wav", "._good.wav", ".git/good.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(160), 16000)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "broken.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = search_audio_files([tmp_path])
    assert found.paths == [tmp_path / "good.wav"]
    assert {(path.name, reason) for path, reason in found.left_out} == {
        (".hidden.wav", "hidden"),
        ("._good.wav", "AppleDouble"),
        (".git", "hidden"),
        ("pipe.wav", "not a file"),
        ("broken.wav", "a broken link"),
    }
    line = found.describe_left_out()
    assert line is not None
    assert line.startswith("5 left out: ")
    assert f"{tmp_path / '.git'} (hidden)" in line


def test_a_long_list_of_files_left_out_is_cut() -> None:
    found = search_audio_files([])
    assert found.describe_left_out() is None
    found.left_out = [(Path(f"{number}.txt"), "no audio") for number in range(30)]
    line = found.describe_left_out()
    assert line is not None
    assert line.startswith("30 left out: 0.txt (no audio), 1.txt (no audio), ")
    assert line.endswith("19.txt (no audio) and 10 more")


def test_folders_that_a_glob_names_are_searched(folder: Path) -> None:
    assert found_names(folder, "dee*") == ["deep/er/c.mp3"]


def test_links_to_folders_are_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "linked.wav").touch()
    (folder / "link").symlink_to(elsewhere)
    assert "link/linked.wav" in found_names(folder, "")


def test_odd_names_are_found_or_refused_alone(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(odd)).touch()
    (tmp_path / "-dash.wav").touch()
    assert len(find_audio_files([tmp_path])) == 2
    assert find_audio_files([os.fsdecode(odd)]) == [Path(os.fsdecode(odd))]
    for name in ("x" * 300, "nul\0.wav"):
        with pytest.raises(UserError, match="check the path"):
            find_audio_files([tmp_path / name])
