"""The `transcribe` command: audio files to text, JSON lines or subtitles, or a test set to WER and speed."""

import argparse
import heapq
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.commands.options import (
    add_chunk_option,
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    output_permission,
)
from lact_asr_model.commands.recognizers import add_ray_options, check_ray_options, open_recognizer
from lact_asr_model.errors import UserError, one_line_errors, print_warning
from lact_asr_model.files import fitting_name, standard_input
from lact_asr_model.recognition.destinations import Destination, ManyFiles, make_destination, progress_told
from lact_asr_model.recognition.outcome import Outcome
from lact_asr_model.recognition.output_formats import (
    SUFFIXES,
    ctm_names,
    format_ctm,
    format_srt,
    format_vtt,
    jsonl_head,
    jsonl_line,
    text_head,
)
from lact_asr_model.recognition.recording_ids import distinct_ids, root_of

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcript import FileResult, Transcript

_SUBTITLE_FORMATS = ("srt", "vtt")
_CHANNELS = {"mix": None, "left": 0, "right": 1}


@dataclass(frozen=True)
class Recording:
    """An input of the command: where its audio is, or why there is none.

    id: different from those of the others. ctm_name: the id as a column of CTM. name: for people. root: the folder
    below which files are named. channel: its index; None = the mean. suffix: what the channel adds to the names.
    """

    id: str
    name: str
    path: Path
    root: Path
    ctm_name: str = ""
    error: UserError | None = None
    channel: int | None = None
    suffix: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 1 when some inputs are bad (the others are transcribed), with 2 when all are."""
    arguments = make_parser().parse_args(argv)
    with one_line_errors():
        _check_arguments(arguments)
        if arguments.data_dir:
            from lact_asr_model.commands.transcribe_dataset import transcribe_dataset

            outcome = transcribe_dataset(arguments)
        else:
            outcome = _transcribe_files(arguments)
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description="Transcribe speech, or measure the word error rate on a test set.",
        epilog="One recording prints its text, several print PATH, a tab and the text each. A file that is bad, or "
        "damaged and transcribed up to there, is one line on stderr; the others are transcribed. Exit code: 0; 1 when "
        "something is missing; 2 when nothing could be done.",
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "paths", nargs="*", metavar="PATH", help="audio or video file, folder or glob; - is audio from stdin"
    )
    inputs.add_argument("--audio_file", metavar="FILE", help="one more audio file")
    inputs.add_argument("--paths_from_stdin", action="store_true", help="read paths from stdin, one a line")
    inputs.add_argument("--data_dir", metavar="DIR", help="folder of a data set with references (give --subset too)")
    inputs.add_argument(
        "--subset",
        help="LibriSpeech subset such as test-clean, manifest or another set, as for --subset of `lact-asr evaluate`",
    )
    inputs.add_argument(
        "--channels",
        choices=[*_CHANNELS, "each"],
        default="mix",
        help="of recordings with several: their mean (default), one of them, or each as a transcript of its own",
    )
    inputs.add_argument(
        "--strict", action="store_true", help="refuse damaged and cut files, instead of transcribing what is there"
    )
    inputs.add_argument(
        "--normalize", action="store_true", help="spell numbers and symbols of the references out, in English"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=SUFFIXES, help="default: text (with --data_dir: jsonl)")
    output.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="add each transcript to that file as soon as it is made; - is stdout",
    )
    output.add_argument(
        "--output_dir",
        metavar="DIR",
        type=Path,
        help="write one file per recording there, in the tree of the folder that is transcribed; with --data_dir: "
        "results.json and transcripts.jsonl",
    )
    output.add_argument("--overwrite", action="store_true", help="replace output files that exist; never an input")
    output.add_argument(
        "--resume",
        action="store_true",
        help="go on with output files that exist: what an earlier run with the same inputs, model and options has "
        "transcribed is left as it is",
    )

    recognition = parser.add_argument_group("recognition")
    recognition.add_argument(
        "--use_ttt",
        action=argparse.BooleanOptionalAction,
        help="adapt the model to each recording first (default: what the checkpoint's enable_ttt says)",
    )
    recognition.add_argument("--batch_size", type=int, default=1, metavar="N", help="recordings at once (default: 1)")
    add_chunk_option(recognition)
    recognition.add_argument(
        "--move_emission_to_cpu", action="store_true", help="decode from main memory, which frees a GPU's"
    )
    recognition.add_argument(
        "--compile",
        action="store_true",
        help="compile the plain pass, once for each of a few lengths of recordings; pays for many of them on a GPU",
    )
    add_decoding_options(parser)
    add_ttt_options(parser)
    add_model_options(parser, runtimes=("torch", "onnx"))
    add_ray_options(parser)
    return parser


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Find contradictions before anything is loaded."""
    has_files = bool(arguments.paths or arguments.audio_file or arguments.paths_from_stdin)
    if arguments.data_dir and has_files:
        raise UserError("--data_dir: does not go with audio files; give one or the other")
    if bool(arguments.data_dir) != bool(arguments.subset):
        raise UserError("--data_dir and --subset: one is missing; give both, for example --subset test-clean")
    if not arguments.data_dir and not has_files:
        raise UserError("nothing to transcribe; give audio files, or --data_dir and --subset")
    if arguments.paths_from_stdin and "-" in arguments.paths:
        raise UserError("- and --paths_from_stdin: stdin cannot be audio and a list of paths; give one of them")
    if arguments.data_dir and arguments.channels != "mix":
        raise UserError(f"--channels {arguments.channels}: is for recordings, not for --data_dir; leave it out")
    if arguments.data_dir and arguments.format in _SUBTITLE_FORMATS:
        raise UserError(f"--format {arguments.format}: is for recordings, not for --data_dir; give text or jsonl")
    if arguments.output and arguments.output_dir and not arguments.data_dir:
        raise UserError("--output and --output_dir: both given; choose one file or a folder")
    if arguments.overwrite and arguments.resume:
        raise UserError("--overwrite and --resume: both given; choose one")
    if arguments.resume and not (arguments.output or arguments.output_dir):
        raise UserError("--resume: there is nothing to go on with; give --output or --output_dir")
    check_ray_options(arguments)
    if arguments.output_dir:
        try:
            arguments.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output_dir {arguments.output_dir}: {error.strerror}; name another folder") from None


def _transcribe_files(arguments: argparse.Namespace) -> Outcome:
    """Transcribe all inputs in their order, each to its place as soon as it is known."""
    with tempfile.TemporaryDirectory() as scratch_dir:
        recordings = _name(list(_find_recordings(arguments, Path(scratch_dir))))
        format_name = arguments.format or "text"
        with_name = len(recordings) > 1 and not arguments.output_dir
        destination = _open_destination(arguments, format_name, recordings, with_name=with_name)
        good = [index for index, recording in enumerate(recordings) if recording.error is None]
        outcome = Outcome(num_transcribed=len(destination.done))
        with progress_told(destination, len(recordings)):
            for index, result in _transcribe(arguments, recordings, good, destination):
                recording = recordings[index]
                outcome.count(result, recording.name)
                if result.transcript is not None:
                    destination.write(index, _format(format_name, recording, result.transcript, with_name=with_name))
            destination.close()
    return outcome


def _find_recordings(arguments: argparse.Namespace, scratch_dir: Path) -> Iterator[Recording]:
    """All inputs in their order; a pattern that matches nothing is a recording with an error."""
    from lact_asr_model.audio_search import search_audio_files

    patterns = [*arguments.paths, *([arguments.audio_file] if arguments.audio_file else [])]
    if arguments.paths_from_stdin:
        patterns += [line for line in os.fsdecode(standard_input().read()).splitlines() if line.strip()]
    for pattern in patterns:
        if pattern == "-":
            path = scratch_dir / "stdin"
            with path.open("wb") as file:
                shutil.copyfileobj(standard_input(), file)
            yield from _channels(Recording("stdin", "standard input", path, scratch_dir), arguments.channels)
            continue
        root = root_of(pattern)
        try:
            found = search_audio_files([pattern])
        except UserError as error:
            yield Recording(Path(pattern).stem, pattern, Path(pattern), root, error=error)
            continue
        left_out = found.describe_left_out()
        if left_out is not None:
            print_warning(f"{pattern}: {left_out}")
        for path in found.paths:
            yield from _channels(Recording(path.stem, str(path), path, root), arguments.channels)


def _channels(recording: Recording, channels: str) -> Iterator[Recording]:
    """A recording with the channel to read, or once for each of its channels."""
    if channels != "each":
        yield replace(recording, channel=_CHANNELS[channels])
        return
    from lact_asr_model.audio import count_channels

    try:
        if not recording.path.is_file():
            raise UserError(f"{recording.name}: a pipe cannot be read once for each channel; write it to a file first")
        num_channels = count_channels(recording.path)
    except UserError as error:
        yield replace(recording, error=error)
        return
    names = {1: [""], 2: ["[left]", "[right]"]}.get(
        num_channels, [f"[{number}]" for number in range(1, num_channels + 1)]
    )
    for channel, name in enumerate(names):
        yield replace(recording, name=recording.name + name, channel=channel, suffix=name)


def _name(recordings: list[Recording]) -> list[Recording]:
    """The recordings with ids that differ, those without audio aside."""
    good = [recording for recording in recordings if recording.error is None]
    files = list(dict.fromkeys((recording.root, recording.path) for recording in good))
    id_of = dict(zip(files, distinct_ids(files), strict=True))
    ids = [id_of[recording.root, recording.path] + recording.suffix for recording in good]
    named = (
        replace(recording, id=id, ctm_name=ctm_name)
        for recording, id, ctm_name in zip(good, ids, ctm_names(ids), strict=True)
    )
    return [next(named) if recording.error is None else recording for recording in recordings]


def _open_destination(
    arguments: argparse.Namespace, format_name: str, recordings: Sequence[Recording], *, with_name: bool
) -> Destination:
    """Where the transcripts go. Raises UserError if that is not allowed."""
    permission = output_permission(arguments, [recording.path for recording in recordings])
    if arguments.output_dir:
        paths = {}
        for index, recording in enumerate(recordings):
            if recording.error is None:
                id = Path(recording.id)
                paths[index] = arguments.output_dir / id.with_name(fitting_name(id.name, SUFFIXES[format_name]))
                if os.path.exists(paths[index]):
                    permission.check(paths[index])
        return ManyFiles(str(arguments.output_dir), paths, resume=arguments.resume)
    if format_name in _SUBTITLE_FORMATS and len(recordings) > 1:
        raise UserError(f"--format {format_name}: {len(recordings)} recordings cannot share a file; give --output_dir")
    heads = [
        _head(format_name, recording, with_name=with_name) if recording.error is None else None
        for recording in recordings
    ]
    return make_destination(arguments.output, permission, format_name, heads)


def _transcribe(
    arguments: argparse.Namespace, recordings: Sequence[Recording], good: Sequence[int], destination: Destination
) -> Iterator[tuple[int, "FileResult"]]:
    """The number of each recording that is not done with its transcript or its error, in order unless Ray is used."""
    from lact_asr_model.recognition.transcript import AudioSource, FileResult

    errors = (
        (index, FileResult(recording.path, None, recording.error))
        for index, recording in enumerate(recordings)
        if recording.error is not None
    )
    done = {place for place, index in enumerate(good) if index in destination.done}
    if len(done) == len(good) and good:
        yield from errors
        return
    sources = [AudioSource(recordings[index].path, recordings[index].channel) for index in good]
    with open_recognizer(arguments) as (_, recognize):
        pending = recognize(sources, done, strict=arguments.strict)
        results = ((good[place], result) for place, result in pending)
        yield from heapq.merge(errors, results, key=lambda pair: pair[0])


def _head(format_name: str, recording: Recording, *, with_name: bool) -> str:
    """How the lines of a recording begin in a file of several."""
    if format_name == "ctm":
        return f"{recording.ctm_name} "
    if format_name == "jsonl":
        return jsonl_head(recording.id, path=recording.name)
    return text_head(recording.name) if with_name else ""


def _format(format_name: str, recording: Recording, transcript: "Transcript", *, with_name: bool) -> str:
    if format_name == "srt":
        return format_srt(transcript.words)
    if format_name == "vtt":
        return format_vtt(transcript.words)
    if format_name == "ctm":
        return format_ctm(recording.ctm_name, transcript.words)
    if format_name == "jsonl":
        return jsonl_line(recording.id, transcript, path=recording.name) + "\n"
    return _head(format_name, recording, with_name=with_name) + transcript.text + "\n"
