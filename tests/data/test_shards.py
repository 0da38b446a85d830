"""Shards as others write them, what is kept of them, and what is wrong with them."""

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.data import shards
from lact_asr_model.data.shards import shard_index
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.errors import UserError
from lact_asr_model.files import write_atomically

SAMPLES = (np.sin(np.arange(1600)) * 0.5 * 32768).astype(np.int16)


def audio(kind: str = "FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 16000, format=kind)
    return file.getvalue()


def write_shard(path: Path, *files: tuple[str, bytes | str | dict[str, object]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            data = (
                content
                if isinstance(content, bytes)
                else (content if isinstance(content, str) else json.dumps(content)).encode()
            )
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_layouts_of_others_are_read(tmp_path: Path) -> None:
    """Folders, text before audio, audio and text apart, other files beside them, suffixes in capitals."""
    write_shard(
        tmp_path / "data" / "b.tar",
        ("x/1.txt", "one"),
        ("x/2.json", {"sentence": "two", "client_id": 7, "id": "zwei"}),
        ("x/1.FLAC", audio()),
        ("x/2.audio.wav", audio("WAV")),
        ("x/2.cls", "3"),
        ("x/.hidden", "nothing"),
        ("y/1.txt", "three\n"),
        ("y/1.json", {"speaker": "s"}),
        ("y/1.wav", audio("WAV")),
    )
    write_shard(tmp_path / "data" / "a.tar", ("first.wav", audio("WAV")), ("first.txt", "zero"))
    found = read_utterances("data", tmp_path)
    assert [(utterance.id, utterance.text, utterance.speaker) for utterance in found] == [
        ("first", "ZERO", None),
        ("x/1", "ONE", None),
        ("zwei", "TWO", "7"),
        ("y/1", "THREE", "s"),
    ]
    for utterance in found:
        assert utterance.duration_seconds == 0.1
        assert np.array_equal(load_samples(utterance), SAMPLES.astype(np.float32) / 32768)


def test_a_shard_is_looked_through_once(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "data" / "a.tar", ("1.flac", audio()), ("1.txt", "one"))
    scans: list[Path] = []
    scan = shards._scan
    monkeypatch.setattr(shards, "_scan", lambda *arguments: scans.append(arguments[0]) or scan(*arguments))
    first = shard_index(path)
    assert shard_index(path) == first and len(scans) == 1
    assert {each.name for each in path.parent.iterdir()} == {"a.tar", ".a.tar.index.json"}

    (path.parent / ".a.tar.index.json").write_text('[[1, 2], {"half')
    assert shard_index(path) == first and len(scans) == 2
    write_shard(path, ("2.flac", audio()), ("2.txt", "two"))
    assert list(shard_index(path)) == ["2"] and len(scans) == 3

    def refuse(place: Path, text: str) -> None:
        if place.parent == path.parent:
            raise UserError("read-only")
        write_atomically(place, text)

    monkeypatch.setattr(shards, "write_atomically", refuse)
    os.utime(path, ns=(0, 0))
    assert shard_index(path) == shard_index(path) and len(scans) == 4
    assert len(list((own_cache / "lact-asr" / "shards").iterdir())) == 1


def test_only_one_process_of_a_training_writes_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "data" / "a.tar", ("1.flac", audio()), ("1.txt", "one"))
    monkeypatch.setenv("RANK", "1")
    assert list(shard_index(path)) == ["1"]
    assert list(path.parent.iterdir()) == [path]


TWO = [("1.flac", audio()), ("1.txt", "one"), ("2.txt", "two"), ("2.flac", audio())]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content[: len(content) // 3], "a.tar: is cut short"),
        (lambda content: content.rstrip(b"\0"), "a.tar: is cut short"),
        (lambda content: content[: -(-len(content.rstrip(b"\0")) // 512) * 512], "a.tar: is cut short"),
        (lambda content: b"no tar file at all" * 100, "no uncompressed tar file"),
        (lambda content: b"", "no uncompressed tar file"),
    ],
)
def test_a_shard_that_is_cut_or_none(tmp_path: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    path = write_shard(tmp_path / "data" / "a.tar", *TWO)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=expected):
        read_utterances("data/a.tar", tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([*TWO, ("1.flac", audio())], r"a.tar: has 1.flac twice; give each sample a key of its own"),
        ([("1.flac", audio())], r"a.tar: 1.flac: has no transcript; give it one under 'text'"),
        ([("1.txt", "one")], r"a.tar: 1 has no audio; add its recording, such as 1.flac"),
        ([("1.flac", audio()), ("1.json", {"words": "one"})], "1.flac: has no transcript"),
        ([("1.flac", audio()), ("1.json", "{one")], "1.json is not valid JSON"),
        ([("1.flac", audio()), ("1.json", "[]")], "1.json is no JSON object"),
        ([("1.flac", audio()), ("1.txt", b"\xff\xfe\xff")], "1.txt is not UTF-8"),
        ([("1.flac", b"nothing to hear"), ("1.txt", "one")], "a.tar: 1.flac: not a readable audio file"),
    ],
)
def test_bad_samples(tmp_path: Path, files: list[tuple[str, bytes]], expected: str) -> None:
    write_shard(tmp_path / "data" / "a.tar", *files)
    with pytest.raises(UserError, match=expected):
        read_utterances("data/a.tar", tmp_path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("none.tar", "none.tar: No such file"),
        ("a.tar.gz", "no uncompressed tar file"),
        ("a{.tar", "a brace is missing"),
    ],
)
def test_names_that_are_wrong(tmp_path: Path, source: str, expected: str) -> None:
    if "{" in source:
        pytest.importorskip("braceexpand")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(UserError, match=expected):
        read_utterances(source, tmp_path)


def test_ranges_of_shards_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with pytest.raises(UserError, match=r'pip install "lact-asr\[data\]"`, or name their folder'):
        read_utterances("shard-{0..3}.tar", tmp_path)
