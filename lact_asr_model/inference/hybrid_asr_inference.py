"""The `transcribe` command: audio files to text, JSON lines or subtitles, or a test set to WER and speed."""

import argparse
import heapq
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError, one_line_errors, print_error
from lact_asr_model.files import fitting_name
from lact_asr_model.inference.command_line import (
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    make_transcriber,
    output_permission,
)
from lact_asr_model.inference.destinations import Destination, ManyFiles, make_destination, progress_told
from lact_asr_model.inference.output_formats import (
    SUFFIXES,
    ctm_names,
    format_ctm,
    format_srt,
    format_vtt,
    jsonl_head,
    jsonl_line,
    text_head,
)
from lact_asr_model.inference.recording_ids import distinct_ids, root_of
from lact_asr_model.inference.resumption import recognize_pending

if TYPE_CHECKING:
    from lact_asr_model.inference.transcriber import Transcript

_SUBTITLE_FORMATS = ("srt", "vtt")


@dataclass(frozen=True)
class Recording:
    """An input of the command: where its audio is, or why there is none.

    id: different from those of the others. ctm_name: the id as a column of CTM. name: for people. root: the folder
    below which files are named.
    """

    id: str
    name: str
    path: Path
    root: Path
    ctm_name: str = ""
    error: UserError | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 2 when an input is bad; the other inputs are transcribed nevertheless."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _check_arguments(arguments)
        if arguments.data_dir:
            from lact_asr_model.inference.transcribe_dataset import transcribe_dataset

            num_failed = transcribe_dataset(arguments)
        else:
            num_failed = _transcribe_files(arguments)
    if num_failed:
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Transcribe speech, or measure the word error rate on a test set.",
        epilog="One recording prints its text, several print PATH, a tab and the text each. A bad file is one line on "
        "stderr and exit code 2; the others are transcribed.",
    )
    inputs = parser.add_argument_group("input")
    inputs.add_argument("paths", nargs="*", metavar="PATH", help="audio file, folder or glob; - is audio from stdin")
    inputs.add_argument("--audio_file", metavar="FILE", help="one more audio file")
    inputs.add_argument("--paths_from_stdin", action="store_true", help="read paths from stdin, one a line")
    inputs.add_argument("--data_dir", metavar="DIR", help="folder of a data set with references (give --subset too)")
    inputs.add_argument(
        "--subset",
        help="LibriSpeech subset such as test-clean, .jsonl manifest or Common Voice .tsv; several joined by +",
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
    recognition.add_argument(
        "--chunk_seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="longer recordings are cut at their quietest points and recognised in pieces (default: 30)",
    )
    recognition.add_argument(
        "--move_emission_to_cpu", action="store_true", help="decode from main memory, which frees a GPU's"
    )
    add_decoding_options(parser)
    add_ttt_options(parser)
    add_model_options(parser)
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
    if arguments.data_dir and arguments.format in _SUBTITLE_FORMATS:
        raise UserError(f"--format {arguments.format}: is for recordings, not for --data_dir; give text or jsonl")
    if arguments.output and arguments.output_dir and not arguments.data_dir:
        raise UserError("--output and --output_dir: both given; choose one file or a folder")
    if arguments.overwrite and arguments.resume:
        raise UserError("--overwrite and --resume: both given; choose one")
    if arguments.resume and not (arguments.output or arguments.output_dir):
        raise UserError("--resume: there is nothing to go on with; give --output or --output_dir")
    if arguments.output_dir:
        try:
            arguments.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output_dir {arguments.output_dir}: {error.strerror}; name another folder") from None


def _transcribe_files(arguments: argparse.Namespace) -> int:
    """Transcribe all inputs in their order, each to its place as soon as it is known; returns how many failed."""
    with tempfile.TemporaryDirectory() as scratch_dir:
        recordings = _name(list(_find_recordings(arguments, Path(scratch_dir))))
        format_name = arguments.format or "text"
        with_name = len(recordings) > 1 and not arguments.output_dir
        destination = _open_destination(arguments, format_name, recordings, with_name=with_name)
        good = [index for index, recording in enumerate(recordings) if recording.error is None]
        num_failed = 0
        with progress_told(destination, len(recordings)):
            for index, transcript, error in _transcribe(arguments, recordings, good, destination):
                recording = recordings[index]
                if transcript is None:
                    num_failed += 1
                    print_error(UserError(str(error).replace(str(recording.path), recording.name)))
                else:
                    destination.write(index, _format(format_name, recording, transcript, with_name=with_name))
            destination.close()
    return num_failed


def _find_recordings(arguments: argparse.Namespace, scratch_dir: Path) -> Iterator[Recording]:
    """All inputs in their order; a pattern that matches nothing is a recording with an error."""
    from lact_asr_model.audio import find_audio_files

    patterns = [*arguments.paths, *([arguments.audio_file] if arguments.audio_file else [])]
    if arguments.paths_from_stdin:
        patterns += [line for line in sys.stdin.read().splitlines() if line.strip()]
    for pattern in patterns:
        if pattern == "-":
            path = scratch_dir / "stdin"
            path.write_bytes(sys.stdin.buffer.read())
            yield Recording("stdin", "standard input", path, scratch_dir)
            continue
        root = root_of(pattern)
        try:
            for path in find_audio_files([pattern]):
                yield Recording(path.stem, str(path), path, root)
        except UserError as error:
            yield Recording(Path(pattern).stem, pattern, Path(pattern), root, error=error)


def _name(recordings: list[Recording]) -> list[Recording]:
    """The recordings with ids that differ, those without audio aside."""
    good = [recording for recording in recordings if recording.error is None]
    ids = distinct_ids([(recording.root, recording.path) for recording in good])
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
) -> Iterator[tuple[int, "Transcript | None", UserError | None]]:
    """The number of each recording that is not done with its transcript or its error, in order."""
    errors = ((index, None, recording.error) for index, recording in enumerate(recordings) if recording.error)
    done = {place for place, index in enumerate(good) if index in destination.done}
    if len(done) == len(good) and good:
        return errors
    transcriber = make_transcriber(arguments)
    pending = recognize_pending(transcriber, [recordings[index].path for index in good], done)
    results = ((good[place], result.transcript, result.error) for place, result in pending)
    return heapq.merge(errors, results, key=lambda result: result[0])


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
