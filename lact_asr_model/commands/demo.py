"""The `demo` command, which `make run` shows: bundled recordings, plain and adapted, clean and in noise."""

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.commands.options import (
    add_model_options,
    add_ttt_options,
    load_model,
    make_ttt_options,
)
from lact_asr_model.data.conditions import parse_condition
from lact_asr_model.data.manifest import read_manifest
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.evaluation.records import Record
from lact_asr_model.evaluation.summary import BASELINE, summarize
from lact_asr_model.metrics import word_errors

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
    from lact_asr_model.adaptation.options import AdaptationOptions
    from lact_asr_model.decoding.hypothesis import Decoder

RECORDINGS_DIR = Path(__file__).parents[1] / "bundled_recordings"
WIDTH = 100
METHOD_LABELS = {BASELINE: "plain", "lm": "plain+LM", "ttt": "adapted", "ttt_lm": "adapted+LM"}
WITH_LM = {BASELINE: "lm", "ttt": "ttt_lm"}
BEAM_SIZE = 250
HOST = "127.0.0.1"
PORT = 7860


def main(argv: Sequence[str] | None = None) -> None:
    """Show every recording, a summary, and how to transcribe one's own."""
    parser = argparse.ArgumentParser(description="Transcribe bundled recordings, plain and adapted, clean and noisy.")
    parser.add_argument(
        "--recordings_dir",
        type=Path,
        default=RECORDINGS_DIR,
        metavar="DIR",
        help="folder with manifest.jsonl and noise/ (default: the bundled ones)",
    )
    parser.add_argument("--snr_db", type=float, default=5.0, metavar="DB", help="level of the noise (default: 5)")
    group = parser.add_argument_group("web page; needs the web extra")
    group.add_argument("--web", action="store_true", help="a page to try one's own recordings on, instead")
    group.add_argument("--port", type=int, metavar="N", help=f"of the page (default: {PORT}; 0: any that is free)")
    group.add_argument("--host", metavar="ADDRESS", help=f"default: {HOST}, which this machine alone can reach")
    add_ttt_options(parser)
    add_model_options(parser)
    arguments = parser.parse_args(argv)
    with one_line_errors():
        if arguments.web:
            _serve_page(arguments)
            return
        for name in ("port", "host"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name}: has no effect without the page; add --web")
        for block in _page(arguments):
            print(block, flush=True)


def _serve_page(arguments: argparse.Namespace) -> None:
    """The web page, until Ctrl-C. Raises UserError."""
    from lact_asr_model.serving.web.server import serve

    def make_page(folder: Path) -> Any:
        from lact_asr_model.serving.web.noises import Noises
        from lact_asr_model.serving.web.page import build_page
        from lact_asr_model.serving.web.recogniser import Recogniser, Recognisers

        def load(checkpoint: str | None) -> Recogniser:
            model = load_model(
                argparse.Namespace(**{**vars(arguments), "checkpoint": checkpoint or arguments.checkpoint})
            )
            return Recogniser(model, make_ttt_options(arguments, model), BEAM_SIZE)

        utterances = read_manifest(arguments.recordings_dir / "manifest.jsonl")
        noises = Noises(arguments.recordings_dir / "noise", [Path(utterance.audio_path) for utterance in utterances])
        print("Loading the model ...", flush=True)
        recognisers = Recognisers(load)
        steps = recognisers.get("").options.steps
        return build_page(recognisers, noises, utterances, steps=steps, snr_db=arguments.snr_db, folder=folder)

    serve(make_page, arguments.host or HOST, PORT if arguments.port is None else arguments.port)


def _page(arguments: argparse.Namespace) -> Iterator[str]:
    """The blocks of text that the command prints, each as soon as it is known."""
    utterances = read_manifest(arguments.recordings_dir / "manifest.jsonl")
    noise_dir = arguments.recordings_dir / "noise"
    conditions = {
        "clean": parse_condition("clean"),
        f"noise {arguments.snr_db:g} dB": parse_condition(f"noise:{arguments.snr_db:g}", noise_dir=noise_dir),
    }
    yield "Loading the model ..."
    model = load_model(arguments)

    from lact_asr_model.evaluation.comparison import recognize
    from lact_asr_model.recognition.transcriber import Transcriber

    options = make_ttt_options(arguments, model)
    decoders: dict[bool, Decoder] = {}
    try:
        for is_adapted in (False, True):
            decoders[is_adapted] = _beam_search(model, for_adapted=is_adapted)
    except UserError as error:
        yield f"Without language model: {error}"
    transcribers = {}
    for name, ttt_options in ((BASELINE, None), ("ttt", options)):
        transcribers[name] = Transcriber(model, ttt_options=ttt_options, device=model.device)
        if decoders:
            decoder = decoders[ttt_options is not None]
            with_lm = Transcriber(model, decoder=decoder, ttt_options=ttt_options, device=model.device)
            transcribers[WITH_LM[name]] = with_lm
    yield _introduction(len(utterances), options, arguments.snr_db)

    records: dict[tuple[str, str], list[Record]] = {}
    for number, utterance in enumerate(utterances, start=1):
        yield _heading(number, utterance)
        for label, condition in conditions.items():
            for record in recognize(transcribers, [utterance], condition, arguments.seed):
                records.setdefault((label, record.method), []).append(record)
                yield _transcript(label, record)
    yield _summary({key: summarize(made, None) for key, made in records.items()})
    yield _invitation(arguments.checkpoint, with_lm=bool(decoders))


def _beam_search(model: "AcousticModel", *, for_adapted: bool) -> "Decoder":
    """The decoder with the bundled language model. Raises UserError: the lm extra is not installed."""
    from lact_asr_model.decoding.factory import make_decoder
    from lact_asr_model.decoding.options import DecodingOptions

    options = DecodingOptions(BEAM_SIZE, weights_dir=model.folder, for_adapted=for_adapted)
    return make_decoder(options, model.vocabulary)


def _introduction(num_recordings: int, options: "AdaptationOptions", snr_db: float) -> str:
    steps = "1 step" if options.steps == 1 else f"{options.steps} steps"
    text = (
        f"{num_recordings} recordings, as they are and with noise {snr_db:g} dB below the speech. "
        f'"plain" is the model as it was trained; "adapted" has first taken {steps} on that very recording '
        f'({options.parameters}, loss {options.loss_type}), without its text; "+LM" decodes the output with beam '
        "search and the bundled language model. WER is the share of wrong words; RTFx is seconds of audio "
        "recognised per second."
    )
    return "\n" + textwrap.fill(text, WIDTH)


def _heading(number: int, utterance: Utterance) -> str:
    title = f"\n{number:2}  {utterance.id}  {utterance.duration_seconds:.1f} s"
    return title + "\n" + _line("reference", "", "WER", utterance.text or "")


def _transcript(label: str, record: Record) -> str:
    wer = word_errors(record.ref, record.hyp).rate
    return _line(label, METHOD_LABELS[record.method], f"{wer:.0%}", record.hyp or "(nothing)")


def _line(condition: str, method: str, wer: str, text: str) -> str:
    start = f"    {condition:<12}{method:<11}{wer:>5}  "
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _summary(summaries: dict[tuple[str, str], dict[str, Any]]) -> str:
    lines = ["\nAll recordings together", f"    {'':12}{'':11}{'WER':>7}{'errors / words':>18}{'RTFx':>9}"]
    for (label, method), summary in summaries.items():
        words = summary["words"]
        errors = words["substitutions"] + words["deletions"] + words["insertions"]
        share = f"{errors} / {words['reference_length']}"
        wer, rtfx = summary["wer"], summary["rtfx"]
        lines.append(f"    {label:<12}{METHOD_LABELS[method]:<11}{wer:>7.1%}{share:>18}{rtfx:>9.1f}")
    return "\n".join(lines)


def _invitation(checkpoint: str | None, *, with_lm: bool) -> str:
    options = "" if checkpoint is None else f" --checkpoint {checkpoint}"
    options += f" --beam_size {BEAM_SIZE}" if with_lm else " --use_ttt"
    return (
        "\nYour own recording (FLAC, WAV, MP3, Ogg or Opus, any sample rate):\n"
        f"    .venv/bin/lact-asr transcribe{options} FILE"
    )
