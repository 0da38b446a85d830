"""The `build-lm` command: an n-gram language model and its lexicon from text, for beam search."""

import argparse
import lzma
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lact_asr_model.decoding.kenlm_programs import default_kenlm_dir, find_or_build_kenlm, run_program
from lact_asr_model.decoding.language_model import BINARY_NAME, LEXICON_NAME, describe
from lact_asr_model.decoding.text_lines import read_lines
from lact_asr_model.errors import UserError
from lact_asr_model.text import normalize_text

_LARGEST_ORDER = 6  # what the wheels that read the model are compiled for


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: count, estimate, quantise, write, and print what came out."""
    print(_run(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Build an n-gram language model with modified Kneser-Ney smoothing (KenLM) and its lexicon.",
        epilog="Text is a sentence a line, plain or .xz, .gz, .bz2; it is written in the recogniser's alphabet first.",
    )
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="text file")
    parser.add_argument("--output_dir", required=True, type=Path, metavar="DIR", help="gets the binary and the lexicon")
    parser.add_argument("--order", type=int, default=4, metavar="N", help="longest n-gram, 2 to 6 (default: 4)")
    parser.add_argument(
        "--prune",
        type=int,
        nargs="+",
        default=[0],
        metavar="COUNT",
        help="drop n-grams with at most this count: a number for each order, the last one for all that follow "
        "(default: 0, which drops nothing)",
    )
    parser.add_argument(
        "--vocabulary_size", type=int, metavar="N", help="only the N most frequent words (default: all)"
    )
    parser.add_argument("--bits", type=int, default=8, metavar="N", help="of a probability, 2 to 25 (default: 8)")
    parser.add_argument("--memory", default="2G", metavar="SIZE", help="for sorting, such as 2G or 50%% (default: 2G)")
    parser.add_argument("--num_jobs", type=int, default=1, metavar="N", help="compilers at once, if KenLM is built")
    parser.add_argument(
        "--kenlm_dir",
        type=Path,
        default=default_kenlm_dir(),
        metavar="DIR",
        help="where KenLM's programs are kept; they are built once (default: %(default)s)",
    )
    return parser


def _run(arguments: argparse.Namespace) -> str:
    _check(arguments)
    programs = find_or_build_kenlm(arguments.kenlm_dir, num_jobs=arguments.num_jobs)
    try:
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=arguments.output_dir, prefix=".partial.") as partial_name:
            partial_dir = Path(partial_name)
            description = _build(arguments, programs, partial_dir)
            for path in [*partial_dir.iterdir()]:
                os.replace(path, arguments.output_dir / path.name)
    except OSError as error:
        raise UserError(f"{arguments.output_dir}: cannot be written ({error.strerror}); choose another") from None
    size_bytes = (arguments.output_dir / BINARY_NAME).stat().st_size
    return (
        f"{arguments.output_dir}: {arguments.order}-gram of {description['num_text_words']} words of text, "
        f"{description['vocabulary_size']} different ones, n-grams {description['num_ngrams']}, "
        f"{size_bytes / 1e6:.1f} MB"
    )


def _check(arguments: argparse.Namespace) -> None:
    if not 2 <= arguments.order <= _LARGEST_ORDER:
        raise UserError(f"--order {arguments.order}: is not from 2 to {_LARGEST_ORDER}; 3 or 4 is usual")
    prune = arguments.prune
    if len(prune) > arguments.order or prune[0] < 0 or sorted(prune) != prune:
        raise UserError(
            f"--prune {' '.join(map(str, prune))}: must be at most {arguments.order} counts from 0 up that never fall, "
            "such as 0 1 2"
        )
    if arguments.vocabulary_size is not None and arguments.vocabulary_size < 1:
        raise UserError(f"--vocabulary_size {arguments.vocabulary_size}: is below 1; give 1 or more")
    if not 2 <= arguments.bits <= 25:
        raise UserError(f"--bits {arguments.bits}: is not from 2 to 25; 8 is usual")
    if not re.fullmatch(r"\d+(\.\d+)?[%KMGT]", arguments.memory):
        raise UserError(f"--memory {arguments.memory}: is not a size such as 2G or 50%; correct it")
    if arguments.num_jobs < 1:
        raise UserError(f"--num_jobs {arguments.num_jobs}: is below 1; give 1 or more")
    for path in arguments.texts:
        if not path.is_file():
            raise UserError(f"{path}: no such text file; check the path")


def _build(arguments: argparse.Namespace, programs: dict[str, Path], output_dir: Path) -> dict[str, Any]:
    """Write binary, lexicon and description to `output_dir`; returns the description."""
    with tempfile.TemporaryDirectory(dir=output_dir) as scratch_name:
        scratch_dir = Path(scratch_name)
        text_path, words_path, arpa_path = (scratch_dir / name for name in ("text", "words", "arpa"))
        counts = _write_normalized(arguments.texts, text_path)
        words = sorted(word for word, _ in counts.most_common(arguments.vocabulary_size))
        words_path.write_text("\n".join(words) + "\n")
        prune = [*arguments.prune, *arguments.prune[-1:] * (arguments.order - len(arguments.prune))]
        run_program(
            [
                *(str(programs["lmplz"]), "--order", str(arguments.order), "--prune", *map(str, prune)),
                *("--limit_vocab_file", str(words_path), "--discount_fallback"),
                *("--memory", arguments.memory, "--temp_prefix", str(scratch_dir / "sort.")),
                *("--text", str(text_path), "--arpa", str(arpa_path)),
            ],
            "language model",
        )
        bits = str(arguments.bits)
        binary_path = output_dir / BINARY_NAME
        quantized = ["-q", bits, "-b", bits, "-a", "22", "trie"]
        run_program([programs["build_binary"], *quantized, arpa_path, binary_path], "language model")
        description = {
            "order": arguments.order,
            "prune": prune,
            "vocabulary_size": len(words),
            "num_ngrams": _ngram_counts(arpa_path),
            "bits": arguments.bits,
            "texts": [path.name for path in arguments.texts],
            "num_text_words": counts.total(),
        }
    with lzma.open(output_dir / LEXICON_NAME, "wt", encoding="utf-8", preset=9) as lexicon:
        lexicon.write("\n".join(words) + "\n")
    describe(output_dir, description)
    return description


def _write_normalized(texts: Sequence[Path], output_path: Path) -> Counter[str]:
    """Write all sentences in the recogniser's alphabet; returns how often each word occurs."""
    counts: Counter[str] = Counter()
    with output_path.open("w", encoding="utf-8") as output:
        for line in _read_with_progress(texts):
            sentence = normalize_text(line)
            if sentence:
                counts.update(sentence.split())
                output.write(sentence + "\n")
    if not counts:
        raise UserError(f"{texts[0]}: has no words; give text with a sentence a line")
    return counts


def _read_with_progress(texts: Sequence[Path]) -> Iterator[str]:
    """The lines of all texts; a bar shows how much of the files has been read."""
    from tqdm import tqdm

    num_bytes = sum(path.stat().st_size for path in texts)
    with tqdm(total=num_bytes, unit="B", unit_scale=True, desc="reading", disable=None) as progress:
        for path in texts:
            start = progress.n

            def report(num_bytes_read: int, start: int = start) -> None:
                progress.update(start + num_bytes_read - progress.n)

            yield from read_lines(path, report)


def _ngram_counts(arpa_path: Path) -> list[int]:
    """Number of n-grams of each order, from the head of an ARPA file."""
    counts = []
    for line in read_lines(arpa_path):
        if line.startswith("ngram "):
            counts.append(int(line.partition("=")[2]))
        elif counts:
            break
    return counts
