"""One way to name data: a LibriSpeech subset or a manifest, several joined by "+"."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from lact_asr_model.data.librispeech import librispeech_entries
from lact_asr_model.data.manifest import MANIFEST_SUFFIXES, manifest_entries
from lact_asr_model.data.spelling import load_speller
from lact_asr_model.data.transcript_report import describe_lost_words
from lact_asr_model.data.utterance import Entry, Reading, Utterance
from lact_asr_model.errors import UserError, print_warning


def read_utterances(
    source: str,
    data_dir: str | Path | None = None,
    *,
    reading: Reading | None = None,
    on_bad_item: Callable[[UserError], None] | None = None,
) -> list[Utterance]:
    """Utterances of a source such as "train-clean-100+train-clean-360" or "extra.jsonl+cv/train.tsv".

    A relative manifest (see `read_manifest`) is looked up in `data_dir`, then in the working directory.

    Args:
        source: what to read.
        data_dir: folder of the LibriSpeech subsets and manifests.
        reading: how transcripts and lengths are read. With a `measure`, which reads every file, a terminal shows a
            progress bar.
        on_bad_item: gets what is wrong with an utterance, which is then left out; None = it is raised.

    Raises:
        UserError: a source is unknown or has no utterances.
    """
    from tqdm import tqdm

    reading = reading or Reading()
    entries: list[Entry] = []
    for name in source.split("+"):
        found = _entries(name.strip(), None if data_dir is None else Path(data_dir), reading)
        if not found:
            raise UserError(f"{name}: it has no utterances; check the file")
        entries += found
    utterances = []
    is_quiet = reading.measure is None or not sys.stderr.isatty()
    for make in tqdm(entries, desc=f"checking {source}", unit="utt", disable=is_quiet, leave=False):
        try:
            utterances.append(make())
        except UserError as error:
            if on_bad_item is None:
                raise
            on_bad_item(error)
    return utterances


def read_references(source: str, data_dir: str | Path | None = None, *, normalize: bool = False) -> list[Utterance]:
    """The utterances of `read_utterances` to compare with; one line on stderr says what their transcripts lose.

    normalize: spell numbers and symbols out first.

    Raises:
        UserError: as `read_utterances`, or the normalize extra is not installed.
    """
    spell_out = load_speller() if normalize else None
    utterances = read_utterances(source, data_dir, reading=Reading(spell_out=spell_out))
    warning = describe_lost_words(utterances, source, is_spelled_out=normalize)
    if warning is not None and os.environ.get("RANK", "0") == "0":
        print_warning(warning)
    return utterances


def _entries(name: str, data_dir: Path | None, reading: Reading) -> list[Entry]:
    if Path(name).suffix.lower() in MANIFEST_SUFFIXES:
        return manifest_entries(_locate(name, data_dir), reading)
    if not name:
        raise UserError("data source: a name is empty; give a LibriSpeech subset or a manifest")
    if data_dir is None:
        raise UserError(f"{name}: a LibriSpeech subset needs its folder; give --data_dir")
    return librispeech_entries(data_dir, name, reading)


def _locate(name: str, data_dir: Path | None) -> Path:
    in_data_dir = (data_dir or Path()) / name
    return in_data_dir if in_data_dir.is_file() else Path(name)
