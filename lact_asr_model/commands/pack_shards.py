"""The `pack-shards` command: any data set as WebDataset shards, which are read fast from slow disks and networks."""

import argparse
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import soundfile

from lact_asr_model.audio import AUDIO_SUFFIXES, SAMPLING_RATE
from lact_asr_model.commands.data_options import add_preparation_options
from lact_asr_model.commands.finished_work import read_finished
from lact_asr_model.data.embedded import DATA_EXTRA
from lact_asr_model.data.shards import shard_index
from lact_asr_model.data.sources import SOURCE_HELP, stream_source
from lact_asr_model.data.utterance import Entry, Reading, Utterance, load_samples
from lact_asr_model.errors import UserError, one_line_errors, print_warning
from lact_asr_model.files import GrowingFile, complete_file, encode
from lact_asr_model.training.data_check import seconds_to_the_end

PROGRESS = "packed.jsonl"
SHARD_NAME = "shard-%06d.tar"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: read, write shards, print what came of it."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        print(_run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Pack a data set into WebDataset shards, tar files that every --subset and --train_subset takes.",
        epilog=f"OUTPUT_DIR gets {SHARD_NAME % 0} and so on, and {PROGRESS}, which says what is in each and "
        "what was left out. Files are copied as they are; stretches and single channels of files are written as FLAC.",
    )
    hub = "hf:OWNER/NAME[/CONFIGURATION][:SPLIT] is a data set on the Hugging Face hub"
    data = add_preparation_options(
        parser, subset_help=f"{SOURCE_HELP}; {hub}", output_help="a new folder for the shards"
    )
    data.add_argument(
        "--shard_mb", type=float, default=500.0, metavar="MB", help="a shard is full at this size (default: 500)"
    )
    return parser


def _run(arguments: argparse.Namespace) -> str:
    from tqdm.auto import tqdm

    if not arguments.shard_mb > 0:
        raise UserError(f"--shard_mb {arguments.shard_mb:g}: is not above 0; the default is 500")
    settings = {name: str(getattr(arguments, name)) for name in ("data_dir", "subset", "shard_mb")}
    shard_writer = _shard_writer()
    entries = stream_source(arguments.subset, arguments.data_dir, _AsWritten(measure=seconds_to_the_end))
    first = list(islice(entries, 1))  # what is wrong with the source is told before the folder is begun
    shards = read_finished(arguments.output_dir / PROGRESS, {"settings": settings}, resume=arguments.resume)
    for shard in shards:
        if not (arguments.output_dir / shard["shard"]).is_file():
            raise UserError(f"{arguments.output_dir}: {shard['shard']} is gone; pack into a new --output_dir")
    with _Packing(arguments, shards, shard_writer) as packing:
        num_done = packing.num_items
        for entry in tqdm(islice(chain(first, entries), num_done, None), initial=num_done, unit="utt", disable=None):
            packing.add(entry)
        packing.finish()
    return _describe(arguments.output_dir, packing)


class _AsWritten(Reading):
    """Transcripts are kept as they are."""

    def transcript(self, written: str) -> tuple[str, tuple[str, ...]]:
        return written, ()


class _Packing:
    """The shards of a folder: each is there, and recorded, when it is complete; an error leaves no part of one."""

    def __init__(self, arguments: argparse.Namespace, shards: list[dict[str, Any]], shard_writer: Any) -> None:
        self.folder: Path = arguments.output_dir
        self.shards = shards
        self.num_items = sum(shard["num_items"] for shard in shards)
        self.left_out: list[str] = []  # of the shard that is being written
        self._seconds: list[float] = []
        self._open_file = ExitStack()
        path = self.folder / PROGRESS
        self._progress = GrowingFile(path, path.stat().st_size)
        self._shard_writer = shard_writer
        self._max_bytes = 1e6 * arguments.shard_mb
        self._writer: Any = None

    def __enter__(self) -> "_Packing":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and self._writer is not None:
            with suppress(OSError, AttributeError):  # AttributeError: it is closed
                self._writer.tarstream.close()
        self._open_file.__exit__(kind, error, traceback)
        self._progress.close()
        if error is not None:
            error.add_note(f"{len(self.shards)} shards in {self.folder} are complete; --resume goes on after them")

    def add(self, entry: Entry) -> None:
        """Write an utterance, or note why it is left out."""
        try:
            utterance = entry()
            sample = _sample(utterance)
        except UserError as error:
            self.left_out.append(str(error))
        else:
            if self._writer is None:
                self._writer = self._shard_writer(
                    SHARD_NAME,
                    maxsize=self._max_bytes,
                    start_shard=len(self.shards),
                    opener=self._open,
                    post=self._close,
                    verbose=0,
                    encoder=False,
                    mtime=0,
                )
            self._writer.write({"__key__": f"{self.num_items:08d}", **sample})
            self._seconds.append(utterance.duration_seconds)
        self.num_items += 1

    def finish(self) -> None:
        """No more utterances."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, name: str) -> BinaryIO:
        return self._open_file.enter_context(complete_file(self.folder / name))

    def _close(self, name: str) -> None:
        self._open_file.close()
        shard_index(self.folder / name)
        record = {
            "shard": name,
            "num_items": self.num_items - sum(shard["num_items"] for shard in self.shards),
            "num_utterances": len(self._seconds),
            "seconds": round(sum(self._seconds), 3),
            "left_out": self.left_out,
        }
        self._progress.append(json.dumps(record, ensure_ascii=False) + "\n")
        self.shards.append(record)
        self._seconds, self.left_out = [], []


def _sample(utterance: Utterance) -> dict[str, bytes]:
    """The files of a sample by their suffix. Raises UserError when it has no transcript, or cannot be read."""
    if not utterance.text:
        raise UserError(f"{utterance.id}: has no transcript")
    suffix = PurePath(utterance.audio_path.name).suffix.lower()
    about = {"id": utterance.id, "text": utterance.text, "duration": round(utterance.duration_seconds, 4)}
    if utterance.speaker is not None:
        about["speaker"] = utterance.speaker
    is_whole = utterance.offset_seconds is None and utterance.channel is None and suffix in AUDIO_SUFFIXES
    return {
        **({suffix[1:]: utterance.audio_path.read_bytes()} if is_whole else {"flac": _flac(load_samples(utterance))}),
        "json": encode(json.dumps(about, ensure_ascii=False)),
    }


def _flac(samples: np.ndarray) -> bytes:
    """Of 16 bits, which are those of the samples where these had no more."""
    integers = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, integers, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _shard_writer() -> Any:
    try:
        from webdataset import ShardWriter
    except ImportError:
        raise UserError(f"pack-shards: to write shards, {DATA_EXTRA}") from None
    return ShardWriter


def _describe(folder: Path, packing: _Packing) -> str:
    reasons = [reason for shard in packing.shards for reason in shard["left_out"]] + packing.left_out
    if reasons:
        print_warning(f"left out: {len(reasons)} bad items, such as {reasons[0]}")
    if not packing.shards:
        raise UserError(f"{folder}: nothing could be packed; correct the data")
    num_utterances = sum(shard["num_utterances"] for shard in packing.shards)
    hours = sum(shard["seconds"] for shard in packing.shards) / 3600
    return f"{len(packing.shards)} shards, {num_utterances} utterances, {hours:.2f} h; use them with --subset {folder}"
