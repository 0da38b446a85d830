"""Carry the recipe to another machine and its results back, in files of a bounded size.

    python recipes/small/pack.py pack ROOT OUTPUT_DIR --speech FOLDER ... [--verbatim PATH ...]
    python recipes/small/pack.py unpack PACK_DIR ROOT
    python recipes/small/pack.py shard FILE OUTPUT_DIR
    python recipes/small/pack.py join SHARD_DIR OUTPUT_FILE

`pack` writes OUTPUT_DIR/NAME-000.tar, ... of at most 60 MB each; each can be unpacked alone, and all of them make a
folder that takes the place of ROOT. The recordings below --speech become Opus of about 24 kbit/s, unless they are
that small already, and manifests follow: what they name by an absolute path comes along in a folder beside them.
Everything below --verbatim stays as it is. What is named first is packed first.

`shard` cuts a file, such as training_state.pt, into pieces of at most 15 MB with a checksum; `join` puts it together.
"""

import argparse
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import soundfile

from lact_asr_model.audio import AUDIO_SUFFIXES, SAMPLING_RATE, audio_duration_seconds, load_audio
from lact_asr_model.errors import UserError, one_line_errors

TAR_BYTES = 60_000_000
SHARD_BYTES = 15_000_000
BITS_PER_SECOND = 24_000
SMALL_BITS_PER_SECOND = 32_000  # compressing these once more would cost quality and save little
TAR_OVERHEAD_BYTES = 3 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE  # headers with a long name, and the end of the file
OPUS_BITS_PER_SECOND = (6_000, 256_000)  # of one channel; libsndfile's compression levels 1 and 0
CHECKSUM = "sha256"


@dataclass(frozen=True)
class Entry:
    """A file to be packed under `name`: the bytes of `path`, those in Opus, or `content`."""

    name: PurePosixPath
    path: Path | None = None
    is_encoded: bool = False
    content: bytes = b""

    def read(self) -> bytes:
        if self.path is None:
            return self.content
        return encode_opus(self.path) if self.is_encoded else self.path.read_bytes()


def encode_opus(path: Path) -> bytes:
    """A recording as one channel of Opus at 16 kHz."""
    lowest, highest = OPUS_BITS_PER_SECOND
    level = (highest - BITS_PER_SECOND) / (highest - lowest)
    encoded = io.BytesIO()
    soundfile.write(encoded, load_audio(path), SAMPLING_RATE, format="OGG", subtype="OPUS", compression_level=level)
    return encoded.getvalue()


def is_small(path: Path) -> bool:
    return path.stat().st_size * 8 <= SMALL_BITS_PER_SECOND * audio_duration_seconds(path)


def list_speech(root: Path, folder: str) -> Iterator[Entry]:
    """The files below a folder of speech, with recordings and manifests as they will be packed."""
    for path in _files(root, folder):
        name = PurePosixPath(path.relative_to(root).as_posix())
        if path.suffix == ".jsonl":
            yield from _list_manifest(path, name)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield _recording(path, name)
        else:
            yield Entry(name, path)


def list_verbatim(root: Path, name: str) -> Iterator[Entry]:
    """The files of or below `name`, as they are."""
    for path in _files(root, name):
        yield Entry(PurePosixPath(path.relative_to(root).as_posix()), path)


def pack(entries: Iterable[Entry], output_dir: Path, name: str, max_bytes: int = TAR_BYTES) -> list[Path]:
    """Write the entries, in their order, into as few tar files of at most `max_bytes` as that takes."""
    output_dir.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    tar: tarfile.TarFile | None = None
    with ThreadPoolExecutor() as executor:
        entries = list(entries)
        for entry, content in zip(entries, executor.map(Entry.read, entries), strict=True):
            if len(content) + TAR_OVERHEAD_BYTES > max_bytes:
                raise UserError(f"{entry.name}: its {len(content)} bytes are too many for a pack; use shard and join")
            if tar is None or tar.offset + len(content) + TAR_OVERHEAD_BYTES > max_bytes:
                if tar is not None:
                    tar.close()
                paths.append(output_dir / f"{name}-{len(paths):03d}.tar")
                tar = tarfile.open(paths[-1], "w")  # noqa: SIM115 (open across iterations)
            header = tarfile.TarInfo(str(entry.name))
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    if tar is None:
        raise UserError("pack: nothing to pack; name folders with files in them")
    tar.close()
    return paths


def unpack(pack_dir: Path, root: Path) -> int:
    """Extract every tar file of `pack_dir` into `root`; returns how many there were."""
    paths = sorted(pack_dir.glob("*.tar"))
    if not paths:
        raise UserError(f"{pack_dir}: no tar files are there; give the folder that pack wrote")
    for path in paths:
        with tarfile.open(path) as tar:
            tar.extractall(root, filter="data")
    return len(paths)


def shard(path: Path, output_dir: Path, max_bytes: int = SHARD_BYTES) -> list[Path]:
    """Cut a file into pieces of at most `max_bytes`, and write the checksum of the whole beside them."""
    output_dir.mkdir(parents=True, exist_ok=True)
    for old in output_dir.glob(f"{path.name}.*"):
        old.unlink()
    pieces: list[Path] = []
    with path.open("rb") as file:
        while piece := file.read(max_bytes):
            pieces.append(output_dir / f"{path.name}.{len(pieces):03d}")
            pieces[-1].write_bytes(piece)
        file.seek(0)
        checksum = hashlib.file_digest(file, CHECKSUM).hexdigest()
    (output_dir / f"{path.name}.{CHECKSUM}").write_text(checksum + "\n")
    return pieces


def join(shard_dir: Path, output_path: Path) -> None:
    """Put the pieces of the file that is called like `output_path` together again.

    Raises:
        UserError: a piece is missing or damaged.
    """
    checksum_path = shard_dir / f"{output_path.name}.{CHECKSUM}"
    if not checksum_path.is_file():
        raise UserError(f"{checksum_path}: is not there; give the folder that shard wrote, and the name of its file")
    pieces = sorted(shard_dir.glob(f"{output_path.name}.[0-9][0-9][0-9]"))
    partial_path = output_path.with_name(f"{output_path.name}.partial")
    partial_path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.new(CHECKSUM)
    with partial_path.open("wb") as output:
        for piece in pieces:
            content = piece.read_bytes()
            digest.update(content)
            output.write(content)
    if digest.hexdigest() != checksum_path.read_text().strip():
        partial_path.unlink()
        raise UserError(f"{shard_dir}: pieces of {output_path.name} are missing or damaged; copy them again")
    partial_path.replace(output_path)


def _files(root: Path, name: str) -> list[Path]:
    path = root / name
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise UserError(f"{path}: no files are there; check the path")
    return files


def _recording(path: Path, name: PurePosixPath) -> Entry:
    return Entry(name, path) if is_small(path) else Entry(name.with_suffix(".opus"), path, is_encoded=True)


def _list_manifest(path: Path, name: PurePosixPath) -> Iterator[Entry]:
    """The manifest, and before it the recordings that are not in the folder that is being packed."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        audio = Path(row["audio_filepath"])
        if audio.is_absolute():
            recording = _recording(audio, name.with_suffix("") / f"{number:06d}{audio.suffix}")
            yield recording
        else:
            recording = _recording(path.parent / audio, name.parent / audio.as_posix())
        lines.append(json.dumps({**row, "audio_filepath": str(recording.name.relative_to(name.parent))}) + "\n")
    yield Entry(name, content="".join(lines).encode())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="data, into tar files of at most 60 MB")
    packing.add_argument("root", type=Path)
    packing.add_argument("output_dir", type=Path)
    packing.add_argument("--speech", nargs="*", default=[], help="folders of recordings and manifests below ROOT")
    packing.add_argument("--verbatim", nargs="*", default=[], help="files and folders below ROOT")
    packing.add_argument("--name", default="pack", help="beginning of the tar files' names (default: pack)")
    unpacking = commands.add_parser("unpack", help="all tar files of a folder")
    unpacking.add_argument("pack_dir", type=Path)
    unpacking.add_argument("root", type=Path)
    cutting = commands.add_parser("shard", help="a file, into pieces of at most 15 MB")
    cutting.add_argument("file", type=Path)
    cutting.add_argument("output_dir", type=Path)
    joining = commands.add_parser("join", help="the pieces of a file")
    joining.add_argument("shard_dir", type=Path)
    joining.add_argument("output_file", type=Path)
    arguments = parser.parse_args(argv)
    with one_line_errors():
        if arguments.command == "pack":
            root = arguments.root
            entries = [entry for folder in arguments.speech for entry in list_speech(root, folder)]
            entries += [entry for name in arguments.verbatim for entry in list_verbatim(root, name)]
            for path in pack(entries, arguments.output_dir, arguments.name):
                print(f"{path}: {path.stat().st_size} bytes")
        elif arguments.command == "unpack":
            print(f"{unpack(arguments.pack_dir, arguments.root)} tar files unpacked into {arguments.root}")
        elif arguments.command == "shard":
            print(f"{len(shard(arguments.file, arguments.output_dir))} pieces in {arguments.output_dir}")
        else:
            join(arguments.shard_dir, arguments.output_file)
            print(f"{arguments.output_file}: put together")


if __name__ == "__main__":
    main()
