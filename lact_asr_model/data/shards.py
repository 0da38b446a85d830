"""WebDataset shards: tar files of KEY.flac (or any other audio) with KEY.txt or KEY.json, read at any place."""

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lact_asr_model.audio import AUDIO_SUFFIXES, EmbeddedAudio, audio_duration_seconds, open_stretch
from lact_asr_model.data.embedded import DATA_EXTRA, make_utterance
from lact_asr_model.data.utterance import Entry, Reading, Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.files import write_atomically

SHARD_SUFFIX = ".tar"
SHARD_SUFFIXES = (SHARD_SUFFIX, ".tar.gz", ".tgz")  # of which the compressed ones are refused
_INDEX_VERSION = 1
_BLOCK_BYTES = 512  # of which a tar file consists, with at least an empty one at its end

_Sample = dict[str, Any]


def shard_entries(path: Path, reading: Reading) -> list[Entry]:
    """The utterances of a shard or of a folder of shards, not yet made.

    KEY.json holds the transcript under one of the names of `COLUMNS`, and may hold an id and a speaker; KEY.txt is a
    transcript. Where the samples lie, and how long they are, is found out once and kept (see `shard_index`).

    Raises:
        UserError: a shard is missing, cut short or no tar file, or it has a file twice.
    """
    shards = sorted(path.glob(f"*{SHARD_SUFFIX}")) if path.is_dir() else [path]
    return [partial(_make, shard, *item, reading) for shard in shards for item in shard_index(shard).items()]


def expand_braces(name: str) -> list[str]:
    """The names that such as shard-{000000..000009}.tar stands for; others stand for themselves. Raises UserError."""
    if "{" not in name:
        return [name]
    try:
        from braceexpand import braceexpand
    except ImportError:
        raise UserError(f"{name}: to read a range of shards, {DATA_EXTRA}, or name their folder") from None
    try:
        return list(braceexpand(name))
    except ValueError:
        raise UserError(f"{name}: a brace is missing; write a range as shard-{{000000..000009}}.tar") from None


def shard_index(shard: Path) -> dict[str, _Sample]:
    """What a shard holds, by key: place of the audio in bytes, its length in seconds, and the texts beside it.

    It is kept in a hidden file beside the shard, or in the user's cache folder where that cannot be written, for as
    long as the shard has the same size and time of change. Raises UserError as `shard_entries`.
    """
    try:
        status = shard.stat()
    except OSError as error:
        raise UserError(f"{shard}: {error.strerror}; check the path") from None
    head = [_INDEX_VERSION, status.st_size, status.st_mtime_ns]
    places = _index_places(shard)
    for place in places:
        with suppress(OSError, ValueError, TypeError):  # there is none, or a kill left a part of it
            kept_head, samples = json.loads(place.read_bytes())
            if kept_head == head:
                return samples
    samples = _scan(shard, status.st_size)
    if os.environ.get("RANK", "0") == "0":
        for place in places:
            with suppress(OSError, UserError):
                place.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(place, json.dumps([head, samples]))
                break
    return samples


def _index_places(shard: Path) -> list[Path]:
    name = f".{shard.name}.index.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lact-asr" / "shards"
    checksum = hashlib.sha256(os.fsencode(os.path.abspath(shard))).hexdigest()[:16]
    return [shard.with_name(name), cache / f"{checksum}{name}"]


def _scan(shard: Path, num_bytes: int) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    names: set[str] = set()
    end = 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK_BYTES) * _BLOCK_BYTES
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if not member.isfile() or not stem or not extension:
                    continue
                if member.name in names:
                    raise UserError(f"{shard}: has {member.name} twice; give each sample a key of its own")
                names.add(member.name)
                sample = samples.setdefault(str(PurePosixPath(folder, stem)), {})
                if extension in ("txt", "json"):
                    sample[extension] = archive.extractfile(member).read().decode("utf-8-sig")  # type: ignore[union-attr]
                elif PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES:
                    sample.setdefault("audio", [member.name, member.offset_data, member.size])
    except UnicodeDecodeError:
        raise UserError(f"{shard}: {member.name} is not UTF-8; write it so") from None
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"{shard}: is cut short, or no uncompressed tar file ({error}); copy or write it again"
        ) from None
    if num_bytes < end + _BLOCK_BYTES:
        raise UserError(f"{shard}: is cut short; write it again")
    for sample in samples.values():
        with suppress(UserError):  # which is told when the utterance is made
            sample["seconds"] = audio_duration_seconds(_audio(shard, sample))
    return samples


def _make(shard: Path, key: str, sample: _Sample, reading: Reading) -> Utterance:
    try:
        row = json.loads(sample["json"]) if "json" in sample else {}
    except json.JSONDecodeError as error:
        raise UserError(f"{shard}: {key}.json is not valid JSON ({error.msg}); correct it") from None
    if not isinstance(row, Mapping):
        raise UserError(f"{shard}: {key}.json is no JSON object; write one with 'text'")
    if "txt" in sample:
        row = {"text": sample["txt"], **row}
    return make_utterance(_audio(shard, sample, key), row, key, reading, sample.get("seconds"))


def _audio(shard: Path, sample: _Sample, key: str = "") -> EmbeddedAudio:
    if "audio" not in sample:
        raise UserError(f"{shard}: {key} has no audio; add its recording, such as {key}.flac")
    name, first_byte, num_bytes = sample["audio"]
    return EmbeddedAudio(shard, name, partial(open_stretch, shard, first_byte, num_bytes))
