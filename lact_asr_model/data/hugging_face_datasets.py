"""Data sets of Hugging Face: folders of `save_to_disk` or of parquet files, and streams from the hub."""

import io
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lact_asr_model.audio import AudioFile, EmbeddedAudio
from lact_asr_model.data.embedded import DATA_EXTRA, make_utterance
from lact_asr_model.data.manifest import COLUMNS
from lact_asr_model.data.utterance import Entry, Reading
from lact_asr_model.errors import UserError

HUB_PREFIX = "hf:"
_SAVED_FILES = ("state.json", "dataset_dict.json")


def is_dataset_folder(folder: Path) -> bool:
    """Whether `datasets` has written the folder, or it holds parquet files, itself or one level down."""
    is_saved = any((folder / name).is_file() for name in _SAVED_FILES)
    return is_saved or any(next(folder.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet"))


def dataset_entries(folder: Path, split: str | None, reading: Reading) -> list[Entry]:
    """The utterances of a folder, not yet made.

    Rows are read at any place. `datasets` copies parquet files to its cache for that.

    Raises:
        UserError: `datasets` is not installed or cannot read the folder, a split has to be named, or a column is
            missing.
    """
    datasets = _import_datasets(str(folder))
    is_saved = any((folder / name).is_file() for name in _SAVED_FILES)
    load = datasets.load_from_disk if is_saved else datasets.load_dataset
    rows = _split(_loaded(str(folder), load, str(folder.resolve())), split, str(folder))
    audio_column = _audio_column(datasets, rows, str(folder))
    rows = _without_decoding(datasets, rows, audio_column).flatten()
    bytes_column, path_column = f"{audio_column}.bytes", f"{audio_column}.path"
    if bytes_column in rows.column_names:
        contents = rows.select_columns([bytes_column])
        has_bytes = contents.data.column(bytes_column).is_valid().to_pylist()
    else:
        has_bytes, path_column = [False] * len(rows), audio_column

    def audio_of(index: int, path: str | None) -> AudioFile:
        if has_bytes[index]:
            name = f"row {index}" + (f": {path}" if path else "")
            return EmbeddedAudio(folder, name, partial(_open_row, contents, index, bytes_column))
        return folder / path if path else _missing(folder, index)

    wanted = [name for name in rows.column_names if name == path_column or _is_known(name)]
    return [
        partial(_make, audio_of, index, row, row.get(path_column), reading)
        for index, row in enumerate(rows.select_columns([name for name in wanted if name != bytes_column]))
    ]


def stream_entries(name: str, reading: Reading) -> Iterator[Entry]:
    """The utterances of a data set on the hub, hf:OWNER/NAME[/CONFIGURATION][:SPLIT], one after the other.

    Raises:
        UserError: as `dataset_entries`, or the hub cannot be reached.
    """
    datasets = _import_datasets(name)
    identifier, _, split = name.removeprefix(HUB_PREFIX).partition(":")
    owner, _, rest = identifier.partition("/")
    repository, _, configuration = rest.partition("/")
    if not owner or not repository:
        raise UserError(f"{name}: is no data set of the hub; write hf:OWNER/NAME, hf:OWNER/NAME/CONFIGURATION:SPLIT")
    load = partial(datasets.load_dataset, f"{owner}/{repository}", configuration or None, streaming=True)
    rows = _split(_loaded(name, load), split or None, name)
    audio_column = _audio_column(datasets, rows, name)
    stream = iter(_without_decoding(datasets, rows, audio_column))
    index = 0
    while (row := _loaded(name, next, stream, None)) is not None:
        audio = row.pop(audio_column)
        content, path = (audio.get("bytes"), audio.get("path")) if isinstance(audio, Mapping) else (None, None)
        yield partial(_make, partial(_streamed_audio, name, content), index, row, path, reading)
        index += 1


def _make(
    audio_of: Callable[[int, str | None], AudioFile],
    index: int,
    row: Mapping[str, Any],
    path: str | None,
    reading: Reading,
) -> Any:
    name = f"{index:07d}" + (f"-{Path(path).stem}" if path else "")
    return make_utterance(audio_of(index, path), row, name, reading)


def _open_row(contents: Any, index: int, column: str) -> io.BytesIO:
    return io.BytesIO(contents[index][column])


def _streamed_audio(name: str, content: bytes | None, index: int, path: str | None) -> EmbeddedAudio:
    if content is None:
        return _missing(Path(name), index)
    return EmbeddedAudio(Path(name), path or f"row {index}", partial(io.BytesIO, content))


def _missing(place: Path, index: int) -> Any:
    raise UserError(f"{place}: row {index} has no audio; leave it out with Dataset.filter")


def _import_datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name}: to read data sets of Hugging Face, {DATA_EXTRA}") from None
    return datasets


def _loaded(name: str, load: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of `datasets` gives; its errors are of many kinds."""
    try:
        return load(*arguments)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or repr(error)
        remedy = "check its name and the connection" if name.startswith(HUB_PREFIX) else "copy or write it again"
        if "torchcodec" in reason:  # which encodes what is no parquet
            remedy = (
                "download it with `hf download --repo-type dataset` and name its table, such as metadata.csv, or shards"
            )
        raise UserError(f"{name}: cannot be read ({reason}); {remedy}") from None


def _split(found: Any, split: str | None, name: str) -> Any:
    if not isinstance(found, dict):
        if split:
            raise UserError(f"{name}: has no splits; leave :{split} out")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        advice = f"write one of {', '.join(f':{key}' for key in found)} behind its name"
        raise UserError(f"{name}: has {f'no split {split!r}' if split else 'several splits'}; {advice}")
    return found[split]


def _audio_column(datasets: Any, rows: Any, name: str) -> str:
    """The column of the audio, if there is one for the transcripts, too."""
    columns = rows.features or dict.fromkeys(next(iter(rows)))
    audio = [each for each, kind in columns.items() if isinstance(kind, datasets.Audio)]
    audio += [each for alias in ("audio", *COLUMNS["audio"]) for each in columns if each.lower() == alias]
    texts = [each for each in columns if each.lower() in COLUMNS["text"]]
    for key, found in (("audio", audio), ("text", texts)):
        if not found:
            raise UserError(
                f"{name}: has no column for the {key}, only {', '.join(columns)}; rename one to {key!r} with "
                "Dataset.rename_column"
            )
    return audio[0]


def _without_decoding(datasets: Any, rows: Any, column: str) -> Any:
    is_audio = isinstance((rows.features or {}).get(column), datasets.Audio)
    return rows.cast_column(column, datasets.Audio(decode=False)) if is_audio else rows


def _is_known(column: str) -> bool:
    return any(column.lower() in COLUMNS[key] for key in ("id", "text", "speaker"))
