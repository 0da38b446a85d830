"""The `transcribe` command: audio files to text, JSON lines or subtitles, or a test set to WER and speed."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.commands.options import (
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    given_ttt_options,
    load_model,
    make_ttt_options,
    start_decoder,
)
from lact_asr_model.errors import UserError, one_line_errors, print_error, print_note, print_warning
from lact_asr_model.recognition.output_formats import (
    SUFFIXES,
    check_writable,
    format_ctm,
    format_srt,
    format_vtt,
    jsonl_line,
    write_atomically,
)

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.recognition.transcript import FileResult, Transcript

_SUBTITLE_FORMATS = ("srt", "vtt")
_CHANNELS = {"mix": None, "left": 0, "right": 1}


@dataclass(frozen=True)
class Recording:
    """An input of the command: where its audio is, or why there is none. channel: its index; None = the mean."""

    id: str
    name: str
    path: Path
    error: UserError | None = None
    channel: int | None = None


@dataclass
class Outcome:
    """How many inputs were transcribed, how many of these only in part, and how many could not be read."""

    num_transcribed: int = 0
    num_partial: int = 0
    num_failed: int = 0

    @property
    def exit_code(self) -> int:
        """0: all is well; 1: something is missing; 2: nothing could be done."""
        if self.num_failed and not self.num_transcribed:
            return 2
        return 1 if self.num_failed or self.num_partial else 0

    def count(self, result: "FileResult", name: str) -> None:
        """Count a result and print its warnings and its error, with the file under `name`."""
        for warning in result.warnings:
            print_warning(warning.replace(str(result.path), name))
        if result.error is not None:
            self.num_failed += 1
            print_error(UserError(str(result.error).replace(str(result.path), name)))
        else:
            self.num_transcribed += 1
            self.num_partial += result.is_partial


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 1 when some inputs are bad (the others are transcribed), with 2 when all are."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _check_arguments(arguments)
        outcome = _transcribe_dataset(arguments) if arguments.data_dir else _transcribe_files(arguments)
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)


def make_transcriber(arguments: argparse.Namespace) -> "Transcriber":
    """The transcriber that the options ask for. Raises UserError."""
    model = load_model(arguments)
    use_ttt = arguments.use_ttt
    if use_ttt is None and getattr(model.model.config, "enable_ttt", False):
        use_ttt = True
        print_note("adapting to each recording, as the checkpoint's enable_ttt says; --no-use_ttt recognises plainly")
    for name in {} if use_ttt else given_ttt_options(arguments):
        raise UserError(f"--ttt_{name}: has no effect without adaptation; add --use_ttt")

    from lact_asr_model.recognition.transcriber import Transcriber

    return Transcriber(
        model,
        decoder=start_decoder(arguments, model.vocabulary),
        ttt_options=make_ttt_options(arguments, model) if use_ttt else None,
        device=model.device,
        batch_size=arguments.batch_size,
        chunk_seconds=arguments.chunk_seconds,
        move_emission_to_cpu=arguments.move_emission_to_cpu,
    )


def _parser() -> argparse.ArgumentParser:
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
        help="LibriSpeech subset such as test-clean, or manifest: .jsonl, .json, .csv, .tsv; several joined by +",
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
    output.add_argument("--output", metavar="FILE", type=Path, help="write the transcripts there, not to stdout")
    output.add_argument(
        "--output_dir",
        metavar="DIR",
        type=Path,
        help="write one file per recording there; with --data_dir: results.json and transcripts.jsonl",
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
    if arguments.data_dir and arguments.channels != "mix":
        raise UserError(f"--channels {arguments.channels}: is for recordings, not for --data_dir; leave it out")
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
    if arguments.output:
        check_writable(arguments.output)
    if arguments.output_dir:
        try:
            arguments.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output_dir {arguments.output_dir}: {error.strerror}; name another folder") from None


def _transcribe_files(arguments: argparse.Namespace) -> Outcome:
    """Transcribe all inputs in their order."""
    with tempfile.TemporaryDirectory() as scratch_dir:
        recordings = list(_find_recordings(arguments, Path(scratch_dir)))
        format_name = arguments.format or "text"
        _check_outputs(arguments, format_name, recordings)
        transcriber = make_transcriber(arguments)

        outcome = Outcome()
        texts = []
        for recording, result in _transcribe(transcriber, recordings, arguments.strict):
            outcome.count(result, recording.name)
            if result.transcript is None:
                continue
            text = _format(
                format_name, recording, result.transcript, with_name=len(recordings) > 1 and not arguments.output_dir
            )
            if arguments.output_dir:
                write_atomically(_output_path(arguments.output_dir, recording, format_name), text)
            elif arguments.output:
                texts.append(text)
            else:
                print(text, end="", flush=True)
        if arguments.output:
            write_atomically(arguments.output, "".join(texts))
    return outcome


def _find_recordings(arguments: argparse.Namespace, scratch_dir: Path) -> Iterator[Recording]:
    """All inputs in their order; a pattern that matches nothing is a recording with an error."""
    from lact_asr_model.audio_search import search_audio_files

    patterns = [*arguments.paths, *([arguments.audio_file] if arguments.audio_file else [])]
    if arguments.paths_from_stdin:
        patterns += [line for line in os.fsdecode(sys.stdin.buffer.read()).splitlines() if line.strip()]
    for pattern in patterns:
        if pattern == "-":
            path = scratch_dir / "stdin"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield from _channels(Recording("stdin", "standard input", path), arguments.channels)
            continue
        try:
            found = search_audio_files([pattern])
        except UserError as error:
            yield Recording(Path(pattern).stem, pattern, Path(pattern), error)
            continue
        left_out = found.describe_left_out()
        if left_out is not None:
            print_warning(f"{pattern}: {left_out}")
        for path in found.paths:
            yield from _channels(Recording(path.stem, str(path), path), arguments.channels)


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
        yield replace(recording, id=recording.id + name, name=recording.name + name, channel=channel)


def _check_outputs(arguments: argparse.Namespace, format_name: str, recordings: Sequence[Recording]) -> None:
    if arguments.output_dir:
        names: dict[Path, Recording] = {}
        for recording in recordings:
            other = names.setdefault(_output_path(arguments.output_dir, recording, format_name), recording)
            if other is not recording:
                raise UserError(f"--output_dir: {other.name} and {recording.name} would share a file; run them apart")
    elif format_name in _SUBTITLE_FORMATS and len(recordings) > 1:
        raise UserError(f"--format {format_name}: {len(recordings)} recordings cannot share a file; give --output_dir")


def _transcribe(
    transcriber: "Transcriber", recordings: Sequence[Recording], strict: bool
) -> Iterator[tuple[Recording, "FileResult"]]:
    """Each recording with its transcript or its error, in order."""
    from lact_asr_model.recognition.transcript import AudioSource, FileResult

    sources = (AudioSource(recording.path, recording.channel) for recording in recordings if recording.error is None)
    results = transcriber.transcribe_files(sources, strict=strict)
    for recording in recordings:
        if recording.error is not None:
            yield recording, FileResult(recording.path, None, recording.error)
        else:
            yield recording, next(results)


def _format(format_name: str, recording: Recording, transcript: "Transcript", *, with_name: bool) -> str:
    if format_name == "srt":
        return format_srt(transcript.words)
    if format_name == "vtt":
        return format_vtt(transcript.words)
    if format_name == "ctm":
        return format_ctm(recording.id, transcript.words)
    if format_name == "jsonl":
        return jsonl_line(recording.id, transcript, path=recording.name) + "\n"
    return (f"{recording.name}\t" if with_name else "") + transcript.text + "\n"


def _output_path(output_dir: Path, recording: Recording, format_name: str) -> Path:
    return output_dir / (recording.id + SUFFIXES[format_name])


def _transcribe_dataset(arguments: argparse.Namespace) -> Outcome:
    """Transcribe a data set and print its error rates and speed."""
    from tqdm import tqdm

    from lact_asr_model.data.sources import read_references
    from lact_asr_model.recognition.dataset_report import dataset_results, format_results

    utterances = read_references(arguments.subset, arguments.data_dir, normalize=arguments.normalize)
    transcriber = make_transcriber(arguments)
    # The longest first: little padding in a batch, and memory that is too small shows at once.
    order = list(range(len(utterances)))
    if not transcriber.is_stream:
        order.sort(key=lambda index: -utterances[index].duration_seconds)
    results = transcriber.transcribe_utterances((utterances[index] for index in order), strict=arguments.strict)
    results_by_index = dict(zip(order, tqdm(results, total=len(order), unit="utt", disable=None), strict=True))

    outcome = Outcome()
    transcribed = []
    failures = {}
    for index, utterance in enumerate(utterances):
        result = results_by_index[index]
        outcome.count(result, str(result.path))
        if result.transcript is not None:
            transcribed.append((utterance, result.transcript))
        elif result.error is not None:
            failures[utterance.id] = str(result.error)

    json_lines = "".join(
        jsonl_line(utterance.id, transcript, reference=utterance.text) + "\n" for utterance, transcript in transcribed
    )
    settings = {
        name: getattr(arguments, name)
        for name in (
            *(
                "data_dir",
                "subset",
                "normalize",
                "checkpoint",
                "beam_size",
                "lm",
                "lm_weight",
                "word_score",
                "beam_threshold",
            ),
            *("lexicon", "hotwords", "hotword_weight", "decoding_processes", "move_emission_to_cpu", "seed"),
        )
    }
    report = dataset_results(transcribed, failures, transcriber, settings)
    if arguments.output:
        lines = {
            "text": (f"{utterance.id}\t{transcript.text}\n" for utterance, transcript in transcribed),
            "ctm": (format_ctm(utterance.id, transcript.words) for utterance, transcript in transcribed),
        }
        write_atomically(arguments.output, "".join(lines.get(arguments.format, json_lines)))
    if arguments.output_dir:
        write_atomically(arguments.output_dir / "transcripts.jsonl", json_lines)
        write_atomically(arguments.output_dir / "results.json", json.dumps(report, indent=2) + "\n")
    print(format_results(report))
    return outcome
