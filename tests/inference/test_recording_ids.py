"""Ids keep the tree of a folder, differ from each other, and are no longer than they must be."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.recognition.output_formats import ctm_names
from lact_asr_model.recognition.recording_ids import distinct_ids, root_of


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ([("", "a.wav")], ["a"]),
        ([("tree", "tree/s1/001.mp3"), ("tree", "tree/s2/001.mp3")], ["s1/001", "s2/001"]),
        ([("tree", "tree/s1/001.mp3"), ("tree/s1", "tree/s1/002.mp3")], ["s1/001", "002"]),
        ([("x/s1", "x/s1/1.mp3"), ("x/s2", "x/s2/1.mp3"), ("y", "y/2.mp3")], ["s1/1", "s2/1", "2"]),
        ([("x/s", "x/s/1.mp3"), ("y/s", "y/s/1.mp3")], ["x/s/1", "y/s/1"]),
        ([("", "a.wav"), ("", "a.mp3")], ["a.wav", "a.mp3"]),
        ([("x", "x/a.wav"), ("x", "x/a.mp3"), ("y", "y/a.wav")], ["x/a.wav", "x/a.mp3", "y/a"]),
        ([("", "a.wav"), ("", "a.wav"), ("", "a-2.wav")], ["a", "a-3", "a-2"]),
        ([("..", "../up.wav"), ("..", "../up/b.c.wav"), ("", "../up/b.c.wav")], ["up", "up/b.c", "b.c"]),
    ],
)
def test_an_id_is_the_shortest_that_differs(
    files: list[tuple[str, str]], ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert distinct_ids([(Path(root), Path(path)) for root, path in files]) == ids


def test_the_root_of_a_pattern_is_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree" / "s1").mkdir(parents=True)
    for name in ("tree/s1/1.wav", "odd[1].wav"):
        (tmp_path / name).touch()
    roots = {
        "tree": "tree", "tree/s1/1.wav": "tree/s1", "tree/*/1.wav": "tree", "*.wav": ".", "tree/s1/*.wav": "tree/s1",
        "odd[1].wav": ".", "tree/**/1.wav": "tree", "/*/x.wav": "/", "missing.wav": ".",
    }  # fmt: skip
    assert {pattern: str(root_of(pattern)) for pattern in roots} == roots


parts = st.text("ab. -", min_size=1, max_size=3).filter(lambda part: part.strip(".") != "")


@given(st.lists(st.lists(parts, min_size=1, max_size=3), max_size=8))
def test_ids_always_differ_and_are_paths_inside_a_folder(paths: list[list[str]]) -> None:
    ids = distinct_ids([(Path(), Path(*path)) for path in paths])
    assert len(set(ids)) == len(paths)
    for id in ids:
        assert not os.path.isabs(id)
        assert ".." not in Path(id).parts


def test_ctm_names_are_columns_that_differ() -> None:
    ids = ["a/talk", "b/talk", "my talk", "my\ttalk", "my_talk", ";; note", " ", "caf\udce9"]
    names = ctm_names(ids)
    assert names == ["a/talk", "b/talk", "my_talk", "my_talk-2", "my_talk-3", "___note", "_", "caf\\udce9"]
