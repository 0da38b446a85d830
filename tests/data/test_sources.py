"""Naming data: subsets, manifests and tables, alone and joined."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import UserError


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    chapter = tmp_path / "data" / "LibriSpeech" / "dev-clean" / "1" / "2"
    (tmp_path / "data" / "clips").mkdir(parents=True)
    chapter.mkdir(parents=True)
    for path in (chapter / "1-2-0000.flac", tmp_path / "data" / "clips" / "a.wav", tmp_path / "b.wav"):
        soundfile.write(path, np.zeros(1600), 16000)
    (chapter / "1-2-0000.trans.txt").write_text("1-2-0000 BOOK\n")
    (tmp_path / "data" / "extra.jsonl").write_text('{"audio_filepath": "clips/a.wav", "text": "extra"}\n')
    (tmp_path / "data" / "train.tsv").write_text("path\tsentence\na.wav\tvoice\n")
    (tmp_path / "mine.jsonl").write_text('{"audio_filepath": "b.wav", "text": "mine"}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("dev-clean", ["BOOK"]),
        ("extra.jsonl", ["EXTRA"]),
        ("train.tsv", ["VOICE"]),
        ("mine.jsonl", ["MINE"]),
        ("train.tsv + dev-clean+extra.jsonl+dev-clean", ["VOICE", "BOOK", "EXTRA", "BOOK"]),
    ],
)
def test_sources(data_dir: Path, monkeypatch: pytest.MonkeyPatch, source: str, texts: list[str]) -> None:
    monkeypatch.chdir(data_dir.parent)
    assert [utterance.text for utterance in read_utterances(source, data_dir)] == texts


def test_manifests_need_no_data_dir(data_dir: Path) -> None:
    assert len(read_utterances(str(data_dir / "extra.jsonl"))) == 1
    assert len(read_utterances(str(data_dir / "extra.jsonl"), data_dir / "elsewhere")) == 1


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("dev-clean+", "a name is empty"),
        ("dev-other", "no LibriSpeech subset 'dev-other'"),
        ("dev-clean+missing.jsonl", r"missing\.jsonl: No such file"),
        ("empty.jsonl", "no utterances"),
        (
            "dev-clean+hf:owner/name:train",
            "hf:owner/name:train: .*run `lact-asr pack-shards --subset hf:owner/name:train",
        ),
    ],
)
def test_bad_sources(data_dir: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: str) -> None:
    monkeypatch.chdir(data_dir.parent)
    with pytest.raises(UserError, match=expected):
        read_utterances(source, data_dir)


def test_subset_without_a_folder() -> None:
    with pytest.raises(UserError, match="give --data_dir"):
        read_utterances("dev-clean")
