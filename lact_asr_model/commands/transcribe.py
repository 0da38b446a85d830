"""The `transcribe` command: audio files to text, JSON lines or subtitles, or a test set to WER and speed."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from lact_asr_model.errors import UserError, one_line_errors, print_error, print_note
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
    from lact_asr_model.recognition.transcript import Transcript

_SUBTITLE_FORMATS = ("srt", "vtt")


@dataclass(frozen=True)
class Recording:
    """An input of the command: where its audio is, or why there is none."""

    id: str
    name: str
    path: Path
    error: UserError | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 2 when an input is bad; the other inputs are transcribed nevertheless."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _check_arguments(arguments)
        num_failed = _transcribe_dataset(arguments) if arguments.data_dir else _transcribe_files(arguments)
    if num_failed:
        raise SystemExit(2)


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
        help="LibriSpeech subset such as test-clean, or manifest: .jsonl, .json, .csv, .tsv; several joined by +",
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


def _transcribe_files(arguments: argparse.Namespace) -> int:
    """Transcribe all inputs in their order; returns how many failed."""
    with tempfile.TemporaryDirectory() as scratch_dir:
        recordings = list(_find_recordings(arguments, Path(scratch_dir)))
        format_name = arguments.format or "text"
        _check_outputs(arguments, format_name, recordings)
        transcriber = make_transcriber(arguments)

        num_failed = 0
        texts = []
        for recording, transcript, error in _transcribe(transcriber, recordings):
            if transcript is None:
                num_failed += 1
                print_error(UserError(str(error).replace(str(recording.path), recording.name)))
                continue
            text = _format(
                format_name, recording, transcript, with_name=len(recordings) > 1 and not arguments.output_dir
            )
            if arguments.output_dir:
                write_atomically(_output_path(arguments.output_dir, recording, format_name), text)
            elif arguments.output:
                texts.append(text)
            else:
                print(text, end="", flush=True)
        if arguments.output:
            write_atomically(arguments.output, "".join(texts))
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
            yield Recording("stdin", "standard input", path)
            continue
        try:
            for path in find_audio_files([pattern]):
                yield Recording(path.stem, str(path), path)
        except UserError as error:
            yield Recording(Path(pattern).stem, pattern, Path(pattern), error)


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
    transcriber: "Transcriber", recordings: Sequence[Recording]
) -> Iterator[tuple[Recording, "Transcript | None", UserError | None]]:
    """Each recording with its transcript or its error, in order."""
    results = transcriber.transcribe_files(recording.path for recording in recordings if recording.error is None)
    for recording in recordings:
        if recording.error is not None:
            yield recording, None, recording.error
        else:
            result = next(results)
            yield recording, result.transcript, result.error


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


def _transcribe_dataset(arguments: argparse.Namespace) -> int:
    """Transcribe a data set and print its error rates and speed; returns how many utterances failed."""
    from tqdm import tqdm

    from lact_asr_model.data.sources import read_references
    from lact_asr_model.recognition.dataset_report import dataset_results, format_results

    utterances = read_references(arguments.subset, arguments.data_dir, normalize=arguments.normalize)
    transcriber = make_transcriber(arguments)
    # The longest first: little padding in a batch, and memory that is too small shows at once.
    order = list(range(len(utterances)))
    if not transcriber.is_stream:
        order.sort(key=lambda index: -utterances[index].duration_seconds)
    results = transcriber.transcribe_utterances(utterances[index] for index in order)
    outcomes = dict(zip(order, tqdm(results, total=len(order), unit="utt", disable=None), strict=True))

    transcribed = []
    failures = {}
    for index, utterance in enumerate(utterances):
        result = outcomes[index]
        if result.transcript is not None:
            transcribed.append((utterance, result.transcript))
        elif result.error is not None:
            failures[utterance.id] = str(result.error)
            print_error(result.error)

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
    return len(failures)
