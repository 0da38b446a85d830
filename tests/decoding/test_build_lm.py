"""`lact-asr build-lm`: with programs that record what they are asked in the place of KenLM's, and with those."""

import gzip
import json
import lzma
import shutil
import stat
from pathlib import Path

import pytest

from lact_asr_model.commands.build_lm import main
from lact_asr_model.decoding import kenlm_programs
from lact_asr_model.decoding.kenlm_programs import default_kenlm_dir, find_or_build_kenlm
from lact_asr_model.decoding.language_model import load_language_model
from lact_asr_model.errors import UserError

pytest.importorskip("kenlm", reason="the lm extra is not installed")

LMPLZ = """#!/bin/sh
echo "$@" > {folder}/lmplz.arguments
while [ $# -gt 0 ]; do
    case $1 in
        --text) cp "$2" {folder}/text ;;
        --limit_vocab_file) cp "$2" {folder}/words ;;
        --arpa) cp {arpa} "$2" ;;
    esac
    shift
done
"""
BUILD_BINARY = """#!/bin/sh
echo "$@" > {folder}/build_binary.arguments
while [ $# -gt 2 ]; do shift; done
cp "$1" "$2"
"""


@pytest.fixture
def kenlm_dir(tiny_lm, tmp_path: Path) -> Path:
    """Programs that write down their arguments and input; the language model is always the tiny one."""
    folder = tmp_path / "kenlm"
    folder.mkdir()
    for name, script in (("lmplz", LMPLZ), ("build_binary", BUILD_BINARY)):
        (folder / name).write_text(script.format(folder=folder, arpa=tiny_lm.arpa))
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def test_text_is_normalized_counted_and_handed_over(kenlm_dir: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "one.txt.xz").write_bytes(lzma.compress("A ba, café!\n\n1999\na a\n".encode()))
    (tmp_path / "two.txt.gz").write_bytes(gzip.compress(b"ba b'a\n"))
    flags = ["--order", "4", "--prune", "0", "2", "--vocabulary_size", "2", "--bits", "6", "--memory", "1G"]
    texts = [str(tmp_path / "one.txt.xz"), str(tmp_path / "two.txt.gz")]
    main([*texts, "--output_dir", str(tmp_path / "lm"), "--kenlm_dir", str(kenlm_dir), *flags])

    assert (kenlm_dir / "text").read_text() == "A BA CAFE\nA A\nBA B'A\n"
    assert (kenlm_dir / "words").read_text().split() == ["A", "BA"]
    arguments = (kenlm_dir / "lmplz.arguments").read_text()
    assert "--order 4 --prune 0 2 2 2 " in arguments
    assert "--memory 1G " in arguments
    assert (kenlm_dir / "build_binary.arguments").read_text().startswith("-q 6 -b 6 ")

    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == ["lexicon.txt.xz", "lm.binary", "lm.json"]
    assert [entry.word for entry in load_language_model(tmp_path / "lm").lexicon] == ["A", "BA"]
    description = json.loads((tmp_path / "lm" / "lm.json").read_text())
    assert description["num_ngrams"] == [6, 5]
    assert description["num_text_words"] == 7
    assert description["texts"] == ["one.txt.xz", "two.txt.gz"]
    assert "7 words of text, 2 different ones" in capsys.readouterr().out


@pytest.mark.skipif(not (default_kenlm_dir() / "lmplz").is_file(), reason="KenLM's programs are not built here")
def test_the_real_programs_estimate_a_model(tmp_path: Path) -> None:
    sentences = [f"the {animal} sat on the {place}" for animal in ("cat", "dog", "hen") for place in ("mat", "bed")]
    (tmp_path / "text").write_text("\n".join(sentences * 3))
    main([str(tmp_path / "text"), "--output_dir", str(tmp_path / "lm"), "--order", "3", "--memory", "100M"])
    language_model = load_language_model(tmp_path / "lm")
    assert language_model.order == 3
    assert language_model.score("THE HEN SAT ON THE BED")[0] > language_model.score("SAT BED THE ON HEN THE")[0] + 2
    assert language_model.score("THE COW")[1] == [True, False]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--order", "1"], "--order 1"),
        (["--order", "7"], "--order 7"),
        (["--order", "2", "--prune", "0", "1", "2"], "--prune 0 1 2"),
        (["--prune", "2", "1"], "--prune 2 1"),
        (["--prune", "-1"], "--prune -1"),
        (["--vocabulary_size", "0"], "--vocabulary_size 0"),
        (["--bits", "1"], "--bits 1"),
        (["--memory", "much"], "--memory much"),
        (["--num_jobs", "0"], "--num_jobs 0"),
    ],
)
def test_wrong_arguments(kenlm_dir: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    (tmp_path / "text").write_text("a b\n")
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / "text"), "--output_dir", str(tmp_path / "lm"), "--kenlm_dir", str(kenlm_dir), *flags])
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize(("content", "message"), [(None, "no such text file"), (b"1 2 3\n", "has no words")])
def test_text_without_words(kenlm_dir: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / "text"), "--output_dir", str(tmp_path / "lm"), "--kenlm_dir", str(kenlm_dir)])


def test_a_program_that_fails_is_one_line_and_leaves_nothing(kenlm_dir: Path, tmp_path: Path) -> None:
    (kenlm_dir / "lmplz").write_text("#!/bin/sh\necho 'reading' >&2\necho 'Error: no space' >&2\nexit 1\n")
    (tmp_path / "text").write_text("a b\n")
    with pytest.raises(UserError, match=r"lmplz failed \(Error: no space\)"):
        main([str(tmp_path / "text"), "--output_dir", str(tmp_path / "lm"), "--kenlm_dir", str(kenlm_dir)])
    assert list((tmp_path / "lm").iterdir()) == []


def test_what_the_build_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kenlm_programs.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"cmake, make, c\+\+ not installed; run: apt install build-essential cmake"):
        find_or_build_kenlm(tmp_path / "empty")


def test_programs_on_the_path_are_used(kenlm_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(kenlm_dir))
    assert shutil.which("lmplz") == str(kenlm_dir / "lmplz")
    assert find_or_build_kenlm(tmp_path / "empty") == {name: kenlm_dir / name for name in ("lmplz", "build_binary")}
