"""Count what training data shares with held-out data: speakers, recordings and sentences.

    python recipes/check_leakage.py DATA_DIR --train SOURCES --held_out SOURCES [--text FILE ...]

SOURCES as `--train_subset` takes them, joined by "+"; a LibriSpeech subset elsewhere is named by its path. Every
training source, and every text of a language model, is compared with every held-out source. Speakers are those of
their corpus: number 19 of LibriSpeech is not number 19 of a manifest; synthetic voices are speakers too. Recordings are
the same if their files are, byte for byte. Sentences are compared in the recogniser's alphabet, and are short below
five words:

- short: short held-out sentences that are training sentences,
- long: other held-out sentences that are training sentences, or a part of one,
- pieces: training sentences of five words or more that are a part of a held-out one.

Exit status 1 if training data holds a held-out speaker or recording, or a long sentence of a LibriSpeech subset. The
sentences of manifests are only counted: corpora of prompts have many speakers read the same ones.
"""

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lact_asr_model.data.manifest import MANIFEST_SUFFIXES
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.decoding.text_lines import read_lines
from lact_asr_model.errors import one_line_errors
from lact_asr_model.text import normalize_text

LONG_WORDS = 5


@dataclass(frozen=True)
class Source:
    """A LibriSpeech subset, a manifest, or a text without audio."""

    name: str
    sentences: frozenset[str]
    utterances: Sequence[Utterance] = ()

    @classmethod
    def read(cls, name: str, data_dir: Path) -> "Source":
        utterances = read_utterances(name, data_dir)
        return cls(name, frozenset(utterance.text for utterance in utterances if utterance.text), utterances)

    @classmethod
    def read_text(cls, path: Path) -> "Source":
        return cls(path.name, frozenset(map(normalize_text, read_lines(path))))

    @property
    def is_librispeech(self) -> bool:
        return not self.name.lower().endswith(MANIFEST_SUFFIXES)

    @cached_property
    def speakers(self) -> frozenset[tuple[str, str]]:
        """(corpus, speaker) of all utterances whose speaker is known."""
        corpus = "LibriSpeech" if self.is_librispeech else str(Path(self.name).parent)
        return frozenset((corpus, utterance.speaker) for utterance in self.utterances if utterance.speaker)

    @cached_property
    def digests(self) -> frozenset[bytes]:
        """Digests of the recordings' files."""
        return frozenset(hashlib.sha256(utterance.audio_path.read_bytes()).digest() for utterance in self.utterances)

    @cached_property
    def sentences_by_run(self) -> dict[tuple[str, ...], list[str]]:
        """For every run of five words, the sentences that hold it."""
        sentences = defaultdict(list)
        for sentence in self.sentences:
            for run in set(_runs(sentence)):
                sentences[run].append(sentence)
        return sentences

    def describe(self) -> str:
        if not self.utterances:
            return f"{self.name}: {len(self.sentences)} sentences"
        hours = sum(utterance.duration_seconds for utterance in self.utterances) / 3600
        return (
            f"{self.name}: {len(self.utterances)} utterances, {len(self.sentences)} sentences, "
            f"{len(self.speakers) or 'unknown'} speakers, {hours:.2f} h"
        )


@dataclass(frozen=True)
class Overlap:
    """What a training source shares with a held-out one; see the module's docstring."""

    train: Source
    held_out: Source
    speakers: frozenset[tuple[str, str]]
    num_recordings: int
    short: set[str]
    long: set[str]
    pieces: set[str]

    @property
    def is_leak(self) -> bool:
        return bool(self.speakers or self.num_recordings or (self.held_out.is_librispeech and self.long))

    def row(self) -> str:
        counts = (len(self.speakers), self.num_recordings, len(self.short), len(self.long), len(self.pieces))
        cells = [self.train.name, self.held_out.name, *map(str, counts), "leak" if self.is_leak else "clean"]
        return f"| {' | '.join(cells)} |"


def find_overlap(train: Source, held_out: Source) -> Overlap:
    """Compare a training source, or a text, with a held-out source."""
    short = {sentence for sentence in held_out.sentences & train.sentences if not any(_runs(sentence))}
    long, pieces = set(), set()
    for sentence in train.sentences:
        for candidate in {found for run in _runs(sentence) for found in held_out.sentences_by_run.get(run, ())}:
            if f" {candidate} " in f" {sentence} ":
                long.add(candidate)
            elif f" {sentence} " in f" {candidate} ":
                pieces.add(sentence)
    return Overlap(
        train,
        held_out,
        train.speakers & held_out.speakers,
        len(train.digests & held_out.digests),
        short,
        long,
        pieces,
    )


def _runs(sentence: str) -> Iterator[tuple[str, ...]]:
    """All runs of five words in a sentence; none in a short one."""
    words = sentence.split()
    return zip(*(words[start:] for start in range(LONG_WORDS)), strict=False)


def report(overlaps: Iterable[Overlap], num_examples: int) -> bool:
    """Print the counts, and up to `num_examples` of the longest sentences of each kind; returns whether all is well."""
    print("| training | held out | speakers | recordings | short | long | pieces | |")
    print("|---|---|---|---|---|---|---|---|")
    all_overlaps = list(overlaps)
    for overlap in all_overlaps:
        print(overlap.row())
    for overlap in all_overlaps:
        for kind, sentences in (("long", overlap.long), ("piece", overlap.pieces)):
            for sentence in sorted(sentences, key=lambda text: (-len(text), text))[:num_examples]:
                print(f"{overlap.train.name}, {overlap.held_out.name}, {kind}: {sentence}")
    return not any(overlap.is_leak for overlap in all_overlaps)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--train", required=True, help="training sources joined by +")
    parser.add_argument("--held_out", required=True, help="validation and test sources joined by +")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="texts of a language model, a sentence a line")
    parser.add_argument("--num_examples", type=int, default=3, help="sentences to print of each kind (default: 3)")
    arguments = parser.parse_args(argv)
    with one_line_errors():
        training, held_out = (
            [Source.read(name, arguments.data_dir) for name in dict.fromkeys(names.split("+"))]
            for names in (arguments.train, arguments.held_out)
        )
        training += map(Source.read_text, arguments.text)
        for role, sources in (("training", training), ("held out", held_out)):
            for source in sources:
                print(f"{role} {source.describe()}")
        is_clean = report((find_overlap(one, other) for one in training for other in held_out), arguments.num_examples)
    print("no leak" if is_clean else "LEAK: training data holds what was held out")
    raise SystemExit(not is_clean)


if __name__ == "__main__":
    main()
