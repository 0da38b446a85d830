"""`pack-shards`: what an interruption leaves, going on, and what cannot be packed."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.commands import pack_shards
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Entry
from lact_asr_model.errors import UserError

pytest.importorskip("webdataset")

Pack = Callable[..., int]


@pytest.fixture
def pack(librispeech_dir: Path) -> Pack:
    """Pack the seven utterances of train-tiny, about two a shard; gives the exit code."""

    def run(folder: Path, *options: str, subset: str = "train-tiny") -> int:
        arguments = ["--data_dir", str(librispeech_dir), "--subset", subset, "--shard_mb", "0.05"]
        try:
            pack_shards.main([*arguments, "--output_dir", str(folder), *options])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".index.json")}


@pytest.fixture
def unbroken(pack: Pack, tmp_path: Path) -> dict[str, bytes]:
    assert pack(tmp_path / "unbroken") == 0
    return content_of(tmp_path / "unbroken")


@pytest.mark.parametrize("number", [2, 4, 6])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), UserError("hub: gone")])
def test_an_interrupted_packing_leaves_whole_shards_and_goes_on(
    pack: Pack,
    unbroken: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    error: BaseException,
) -> None:
    stream = pack_shards.stream_source

    def breaks_off(*arguments: Any) -> Iterator[Entry]:
        for index, entry in enumerate(stream(*arguments)):
            if index == number:
                raise error
            yield entry

    folder = tmp_path / "broken"
    with monkeypatch.context() as context:
        context.setattr(pack_shards, "stream_source", breaks_off)
        assert pack(folder) == (128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 2)
    left = content_of(folder)
    assert 1 <= len(left) < len(unbroken)
    assert all(left[name] == unbroken[name] for name in left if name.endswith(".tar"))
    assert not [name for name in left if name.endswith(".partial")]
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    if not isinstance(error, OSError):
        assert f"{len(left) - 1} shards in {folder} are complete; --resume goes on" in errors

    assert pack(folder) == 2
    assert "is not empty; choose a new folder, or go on with a run by --resume" in capsys.readouterr().err
    assert content_of(folder) == left
    assert pack(folder, "--resume") == 0
    assert content_of(folder) == unbroken
    assert pack(folder, "--resume") == 0  # there is nothing left to do
    assert content_of(folder) == unbroken


def test_a_kill_between_a_shard_and_its_record_loses_nothing(
    pack: Pack, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "unbroken"
    lines = (folder / pack_shards.PROGRESS).read_bytes().splitlines(keepends=True)
    (folder / pack_shards.PROGRESS).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    (folder / ".shard-000002.tar.partial").write_bytes(b"half of a shard")
    assert pack(folder, "--resume") == 0
    assert content_of(folder) == unbroken


def test_nothing_else_is_written_over_or_gone_on_with(
    pack: Pack, unbroken: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "shard-000000.tar").write_text("mine")
    for options in ((), ("--resume",)):
        assert pack(tmp_path / "mine", *options) == 2
    assert content_of(tmp_path / "mine") == {"shard-000000.tar": b"mine"}
    assert pack(tmp_path / "unbroken", "--resume", subset="dev-tiny") == 2
    assert "was begun with other options or data" in capsys.readouterr().err
    assert content_of(tmp_path / "unbroken") == unbroken
    (tmp_path / "unbroken" / "shard-000001.tar").unlink()
    assert pack(tmp_path / "unbroken", "--resume") == 2
    assert "shard-000001.tar is gone" in capsys.readouterr().err


def test_a_source_that_is_not_there_leaves_no_folder(pack: Pack, tmp_path: Path) -> None:
    assert pack(tmp_path / "shards", subset="train-none") == 2
    assert not (tmp_path / "shards").exists()


def test_bad_items_are_left_out_and_listed(
    pack: Pack, librispeech_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted((librispeech_dir / "LibriSpeech" / "train-tiny").rglob("*.flac"))
    (tmp_path / "cut.flac").write_bytes(good[0].read_bytes()[:5000])
    rows = [{"path": "cut.flac", "text": "a"}, {"path": str(good[0]), "text": "b"}, {"path": str(good[1])}]
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert pack(tmp_path / "shards", subset=str(tmp_path / "mixed.jsonl")) == 0
    printed = capsys.readouterr()
    assert "1 shards, 1 utterances" in printed.out
    assert "warning: left out: 2 bad items, such as" in printed.err and "cut.flac" in printed.err
    assert [utterance.text for utterance in read_utterances(str(tmp_path / "shards"))] == ["B"]

    (tmp_path / "mixed.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert pack(tmp_path / "none", subset=str(tmp_path / "mixed.jsonl")) == 2
    assert "nothing could be packed" in capsys.readouterr().err


def test_without_the_extra_it_is_one_line(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    assert pack(tmp_path / "shards") == 2
    assert capsys.readouterr().err == 'error: pack-shards: to write shards, run `pip install "lact-asr[data]"`\n'
    assert not (tmp_path / "shards").exists()
