"""One way to name data: LibriSpeech subsets, manifests, shards, cuts and data sets, several joined by "+"."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lact_asr_model.data.hugging_face_datasets import HUB_PREFIX, dataset_entries, is_dataset_folder, stream_entries
from lact_asr_model.data.lhotse_cuts import cut_entries, is_cuts
from lact_asr_model.data.librispeech import librispeech_entries
from lact_asr_model.data.manifest import MANIFEST_SUFFIXES, manifest_entries
from lact_asr_model.data.shards import SHARD_SUFFIX, SHARD_SUFFIXES, expand_braces, shard_entries
from lact_asr_model.data.spelling import load_speller
from lact_asr_model.data.transcript_report import describe_lost_words
from lact_asr_model.data.utterance import Entry, Reading, Utterance
from lact_asr_model.errors import UserError, print_warning

SOURCE_HELP = (
    "LibriSpeech subset such as dev-clean, manifest (.jsonl, .json, .csv, .tsv), Lhotse cuts (.jsonl, .jsonl.gz), "
    "WebDataset shards (.tar, or a folder), or folder of Hugging Face's datasets; several joined by +"
)


def read_utterances(
    source: str,
    data_dir: str | Path | None = None,
    *,
    reading: Reading | None = None,
    on_bad_item: Callable[[UserError], None] | None = None,
) -> list[Utterance]:
    """Utterances of a source such as "train-clean-100+train-clean-360" or "extra.jsonl+shards/train".

    A relative file or folder is looked up in `data_dir`, then in the working directory. A data set on the hub is only
    read from its beginning to its end (`stream_source`).

    Args:
        source: what to read.
        data_dir: folder of the LibriSpeech subsets and of what else has no absolute path.
        reading: how transcripts and lengths are read. With a `measure`, which reads every file, a terminal shows a
            progress bar.
        on_bad_item: gets what is wrong with an utterance, which is then left out; None = it is raised.

    Raises:
        UserError: a source is unknown or has no utterances.
    """
    from tqdm import tqdm

    reading = reading or Reading()
    entries: list[Entry] = []
    for name in map(str.strip, source.split("+")):
        if name.startswith(HUB_PREFIX):
            raise UserError(
                f"{name}: the hub can only be read from beginning to end; run `lact-asr pack-shards --subset {name} "
                "--output_dir DIR` and give DIR instead"
            )
        entries += _some(name, _entries(name, data_dir, reading))
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


def stream_source(source: str, data_dir: str | Path | None, reading: Reading) -> Iterator[Entry]:
    """The utterances of `read_utterances`, and of data sets on the hub, not yet made. Raises UserError."""
    for name in map(str.strip, source.split("+")):
        is_on_hub = name.startswith(HUB_PREFIX)
        yield from stream_entries(name, reading) if is_on_hub else _some(name, _entries(name, data_dir, reading))


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


def _some(name: str, entries: list[Entry]) -> list[Entry]:
    if not entries:
        raise UserError(f"{name}: it has no utterances; check the file")
    return entries


def _entries(name: str, data_dir: str | Path | None, reading: Reading) -> list[Entry]:
    path = _locate(name, data_dir)
    if name.lower().endswith((*MANIFEST_SUFFIXES, ".jsonl.gz")):
        return cut_entries(path, reading) if is_cuts(path) else manifest_entries(path, reading)
    if not name:
        raise UserError("data source: a name is empty; give a LibriSpeech subset or a manifest")
    if name.lower().endswith(SHARD_SUFFIXES):
        paths = [_locate(shard, data_dir) for shard in expand_braces(name)]
        return [entry for path in paths for entry in shard_entries(path, reading)]
    if next(path.glob(f"*{SHARD_SUFFIX}"), None):
        return shard_entries(path, reading)
    folder_name, colon, split = name.rpartition(":")
    folder = _locate(folder_name, data_dir) if colon and not path.exists() else path
    if is_dataset_folder(folder):
        return dataset_entries(folder, None if folder == path else split, reading)
    if data_dir is None:
        raise UserError(f"{name}: no such folder of data, and a LibriSpeech subset needs its own; give --data_dir")
    return librispeech_entries(data_dir, name, reading)


def _locate(name: str, data_dir: str | Path | None) -> Path:
    in_data_dir = Path(data_dir or "") / name
    return in_data_dir if in_data_dir.exists() else Path(name)
