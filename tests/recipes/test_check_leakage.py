"""What training data shares with held-out data: `recipes/check_leakage.py`."""

import importlib.util
import json
import lzma
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

SCRIPT = Path(__file__).parents[2] / "recipes" / "check_leakage.py"
LONG = "THE CAT SAT ON THE MAT"


@pytest.fixture(scope="module")
def leakage() -> ModuleType:
    """The script as a module."""
    specification = importlib.util.spec_from_file_location("check_leakage", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class DataFolder:
    """Subsets and manifests of noise; every recording differs unless its seed is the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_recordings = 0

    def write_noise(self, path: Path, seed: int | None) -> None:
        self.num_recordings += 1
        rng = np.random.default_rng(1000 + self.num_recordings if seed is None else seed)
        soundfile.write(path, rng.normal(scale=0.1, size=1600), 16000)

    def add_subset(self, subset: str, speaker: str, *sentences: str, seed: int | None = None) -> None:
        chapter = self.path / "LibriSpeech" / subset / speaker / "1"
        chapter.mkdir(parents=True)
        names = [f"{speaker}-1-{number:04d}" for number in range(len(sentences))]
        for name in names:
            self.write_noise(chapter / f"{name}.flac", seed)
        lines = [f"{name} {sentence}\n" for name, sentence in zip(names, sentences, strict=True)]
        (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))

    def add_manifest(self, name: str, speaker: str | None, *sentences: str, seed: int | None = None) -> None:
        manifest = self.path / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, sentence in enumerate(sentences):
            audio = f"{manifest.stem}-{number}.flac"
            self.write_noise(manifest.parent / audio, seed)
            rows.append({"audio_filepath": audio, "text": sentence, "speaker": speaker})
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def check(leakage: ModuleType, data: DataFolder, train: str, held_out: str, *text: Path) -> int:
    flags = ["--text", *map(str, text)] if text else []
    with pytest.raises(SystemExit) as stopped:
        leakage.main([str(data.path), "--train", train, "--held_out", held_out, *flags])
    return int(stopped.value.code or 0)


def test_other_speakers_recordings_and_sentences_are_no_leak(leakage, data, capsys) -> None:
    data.add_subset("train-mini", "19", "ONE TWO THREE FOUR FIVE", "YES")
    data.add_manifest("accents/train.jsonl", "20", "YES", "SIX SEVEN EIGHT NINE TEN")
    data.add_subset("test-mini", "20", LONG, "YES")  # not the accents' number 20
    assert check(leakage, data, "train-mini+accents/train.jsonl+train-mini", "test-mini") == 0
    printed = capsys.readouterr().out
    assert "training train-mini: 2 utterances, 2 sentences, 1 speakers, 0.00 h" in printed
    assert printed.count("| train-mini | test-mini | 0 | 0 | 1 | 0 | 0 | clean |") == 1
    assert "| accents/train.jsonl | test-mini | 0 | 0 | 1 | 0 | 0 | clean |" in printed
    assert printed.endswith("no leak\n")


def test_a_speaker_in_both(leakage, data, capsys) -> None:
    data.add_subset("train-mini", "19", "YES")
    data.add_subset("test-mini", "19", "NO")
    assert check(leakage, data, "train-mini", "test-mini") == 1
    assert "| 1 | 0 | 0 | 0 | 0 | leak |" in capsys.readouterr().out


def test_a_speaker_in_two_manifests_of_a_folder(leakage, data) -> None:
    data.add_manifest("accents/train.jsonl", "7", "YES")
    data.add_manifest("accents/test.jsonl", "7", "NO")
    data.add_manifest("voices/train.jsonl", "7", "YES")
    assert check(leakage, data, "accents/train.jsonl", "accents/test.jsonl") == 1
    assert check(leakage, data, "voices/train.jsonl", "accents/test.jsonl") == 0


def test_the_same_recording_under_another_name(leakage, data, capsys) -> None:
    data.add_manifest("found/train.jsonl", None, "YES", seed=5)
    data.add_subset("test-mini", "19", "NO", seed=5)
    assert check(leakage, data, "found/train.jsonl", "test-mini") == 1
    printed = capsys.readouterr().out
    assert "| 0 | 1 | 0 | 0 | 0 | leak |" in printed
    assert "unknown speakers" in printed


@pytest.mark.parametrize("sentence", [LONG, f"WELL {LONG}", f"{LONG} AGAIN"])
def test_a_long_sentence_alone_or_in_another(leakage, data, capsys, sentence: str) -> None:
    data.add_manifest("voices/train.jsonl", "robot", sentence)
    data.add_subset("test-mini", "19", LONG)
    assert check(leakage, data, "voices/train.jsonl", "test-mini") == 1
    printed = capsys.readouterr().out
    assert "| 0 | 0 | 0 | 1 | 0 | leak |" in printed
    assert f"voices/train.jsonl, test-mini, long: {LONG}\n" in printed


def test_words_are_compared_and_not_letters(leakage, data) -> None:
    data.add_manifest("voices/train.jsonl", "robot", f"{LONG}TRESS")
    data.add_subset("test-mini", "19", LONG)
    assert check(leakage, data, "voices/train.jsonl", "test-mini") == 0


def test_a_piece_of_a_held_out_sentence_is_counted(leakage, data, capsys) -> None:
    data.add_manifest("voices/train.jsonl", "robot", "CAT SAT ON THE MAT")
    data.add_subset("test-mini", "19", LONG)
    assert check(leakage, data, "voices/train.jsonl", "test-mini") == 0
    printed = capsys.readouterr().out
    assert "| 0 | 0 | 0 | 0 | 1 | clean |" in printed
    assert "voices/train.jsonl, test-mini, piece: CAT SAT ON THE MAT" in printed


def test_a_subset_elsewhere_and_a_table(leakage, data, tmp_path_factory, capsys) -> None:
    elsewhere = DataFolder(tmp_path_factory.mktemp("elsewhere"))
    elsewhere.add_subset("test-clean", "19", LONG, seed=5)
    data.add_subset("train-mini", "19", "YES")
    data.write_noise(data.path / "one.flac", None)
    (data.path / "table.csv").write_text(f"path,sentence,client_id\none.flac,{LONG.lower()},19\n")
    path = elsewhere.path / "LibriSpeech" / "test-clean"
    assert check(leakage, data, "train-mini+table.csv", str(path)) == 1
    printed = capsys.readouterr().out
    assert f"| train-mini | {path} | 1 | 0 | 0 | 0 | 0 | leak |" in printed  # a speaker of LibriSpeech, too
    assert f"| table.csv | {path} | 0 | 0 | 0 | 1 | 0 | leak |" in printed  # not that speaker
    assert check(leakage, data, "train-mini", "table.csv") == 0


def test_prompts_of_a_manifest_may_recur(leakage, data, capsys) -> None:
    data.add_manifest("accents/train.jsonl", "1", LONG)
    data.add_manifest("accents/test.jsonl", "2", LONG)
    assert check(leakage, data, "accents/train.jsonl", "accents/test.jsonl") == 0
    assert "| 0 | 0 | 0 | 1 | 0 | clean |" in capsys.readouterr().out


def test_text_of_a_language_model(leakage, data, capsys) -> None:
    data.add_subset("train-mini", "18", "YES")
    data.add_subset("test-mini", "19", LONG)
    (data.path / "books.txt.xz").write_bytes(lzma.compress(b"no\nthe cat sat, on the mat\n"))
    assert check(leakage, data, "train-mini", "test-mini", data.path / "books.txt.xz") == 1
    printed = capsys.readouterr().out
    assert "training books.txt.xz: 2 sentences\n" in printed
    assert "| books.txt.xz | test-mini | 0 | 0 | 0 | 1 | 0 | leak |" in printed


def test_an_unknown_source_is_one_line(leakage, data, capsys) -> None:
    data.add_subset("test-mini", "19", LONG)
    assert check(leakage, data, "missing.jsonl", "test-mini") == 2
    assert capsys.readouterr().err.startswith("error: ")
