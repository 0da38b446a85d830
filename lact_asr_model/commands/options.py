"""What the inference commands share: options, loading, and errors as one line each. Imports nothing heavy."""

import argparse
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.adaptation.options import AdaptationOptions, model_options
from lact_asr_model.errors import UserError, print_note
from lact_asr_model.files import identities
from lact_asr_model.recognition.destinations import Permission

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
    from lact_asr_model.decoding.hypothesis import Decoder
    from lact_asr_model.decoding.options import DecodingOptions
    from lact_asr_model.recognition.transcriber import Transcriber

ADAPTING = "adapting to each recording, as the checkpoint's enable_ttt says; --no-use_ttt recognises plainly"


def add_model_options(parser: argparse.ArgumentParser, *, runtimes: Sequence[str] = ("torch",)) -> None:
    """Which model runs, and where; `runtimes` are those that the command can choose from."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        metavar="NAME",
        help="folder or best_model.pt of a training, or a folder or hub id of any Hugging Face CTC model "
        "(default: the model of the package)",
    )
    group.add_argument("--language", metavar="CODE", help="of a multilingual model's adapters, such as deu for MMS")
    group.add_argument("--device", help="for example cpu or cuda:0 (default: a GPU if there is one)")
    group.add_argument("--num_threads", type=int, metavar="N", help="CPU threads (default: PyTorch's own choice)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    parser.set_defaults(runtime=runtimes[0])
    if len(runtimes) > 1:
        group.add_argument("--runtime", choices=runtimes, help="onnx: a folder of `lact-asr export`, without PyTorch")


def add_chunk_option(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """How long a piece of a recording may be that is recognised, and adapted to, at once."""
    group.add_argument(
        "--chunk_seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="longer recordings are cut at their quietest points and recognised in pieces (default: 30)",
    )


def add_ttt_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How to adapt; what is not given comes from the model's configuration."""
    group = parser.add_argument_group("adaptation (TTT); the model's configuration holds the defaults")
    for option in model_options():
        group.add_argument(
            f"--ttt_{option.name}",
            type=type(option.default),
            metavar=option.metadata["metavar"],
            help=option.metadata["help"],
        )
    return group


def add_decoding_options(parser: argparse.ArgumentParser, beam_size: int = 1, *, in_processes: bool = True) -> None:
    """How to turn log-probabilities into text; `beam_size` is the default.

    `in_processes`: whether the command can decode in processes of its own.
    """
    group = parser.add_argument_group("decoding; a beam above 1 needs the lm extra")
    default = "1 (default) is greedy decoding" if beam_size == 1 else f"hypotheses to keep (default: {beam_size})"
    group.add_argument("--beam_size", type=int, default=beam_size, metavar="N", help=default)
    group.add_argument(
        "--lm", metavar="PATH", help="folder of build-lm, KenLM file, none, or bundled (default with a beam)"
    )
    group.add_argument("--lm_weight", type=float, metavar="W", help="default: what tune-lm found, or else 0.5")
    group.add_argument("--word_score", type=float, metavar="S", help="default: what tune-lm found, or else 0.5")
    group.add_argument(
        "--beam_threshold", type=float, metavar="S", help="drop what scores that much less (default: 20)"
    )
    group.add_argument(
        "--lexicon", metavar="PATH", help="file of the words to recognise, or none: any word (default: the LM's words)"
    )
    group.add_argument(
        "--hotwords", metavar="LIST", help="comma-separated words or phrases to favour; any word is open"
    )
    group.add_argument("--hotword_weight", type=float, metavar="S", help="score of a hotword (default: 10)")
    group.add_argument("--n_best", type=int, metavar="N", help="hypotheses in JSON lines (default: the best only)")
    if in_processes:
        group.add_argument(
            "--decoding_processes",
            type=int,
            default=0,
            metavar="N",
            help="decode in N processes while the model computes the next batch (default: 0, in this one)",
        )


def make_decoding_options(arguments: argparse.Namespace, *, for_adapted: bool = False) -> "DecodingOptions":
    """The options of `add_decoding_options`, and the weights beside the checkpoint. Raises UserError."""
    from lact_asr_model.decoding.options import NONE, DecodingOptions

    names = ("lm", "lm_weight", "word_score", "beam_threshold", "lexicon", "hotwords", "hotword_weight", "n_best")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.beam_size == 1:
        for name in given:
            if (name, given[name]) != ("lm", NONE):
                raise UserError(f"--{name}: has no effect on greedy decoding; add --beam_size 50")
    if arguments.hotwords is not None:
        given["hotwords"] = tuple(word.strip() for word in arguments.hotwords.split(",") if word.strip())
    if getattr(arguments, "decoding_processes", 0) < 0:
        raise UserError(f"--decoding_processes {arguments.decoding_processes}: is negative; give 0 or more")
    weights_dir = checkpoint_dir(arguments.checkpoint)
    return DecodingOptions(arguments.beam_size, weights_dir=weights_dir, for_adapted=for_adapted, **given)


def start_decoder(arguments: argparse.Namespace, model: "AcousticModel", *, for_adapted: bool = False) -> "Decoder":
    """The decoder of the options for what the model says, in processes of its own if they say so. Raises UserError."""
    options = make_decoding_options(arguments, for_adapted=for_adapted)
    options = replace(options, weights_dir=model.folder or options.weights_dir)
    if arguments.decoding_processes == 0:
        from lact_asr_model.decoding.factory import make_decoder

        return make_decoder(options, model.vocabulary)
    from lact_asr_model.decoding.parallel import ParallelDecoder

    return ParallelDecoder(options, model.vocabulary, arguments.decoding_processes)


def checkpoint_dir(checkpoint: str | None) -> Path:
    """The folder of a checkpoint, where `decoding.json` lies; None: the bundled model's."""
    if checkpoint is None:
        from lact_asr_model.checkpoint_io import BUNDLED_MODEL_DIR

        return BUNDLED_MODEL_DIR
    path = Path(checkpoint)
    return path if path.is_dir() else path.parent


def given_ttt_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags of `add_ttt_options` that were given, by the names of `AdaptationOptions`."""
    prefix = "ttt_"
    return {
        name.removeprefix(prefix): value
        for name, value in vars(arguments).items()
        if name.startswith(prefix) and value is not None
    }


def make_ttt_options(arguments: argparse.Namespace, model: "AcousticModel") -> AdaptationOptions:
    """The model's own options with the given flags on top; a given number of steps counts everywhere.

    Raises UserError.
    """
    given = given_ttt_options(arguments)
    if "steps" in given:
        given.setdefault("steps_with_lm", 0)
    return replace(model.default_options, seed=arguments.seed, **given)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """For loading: nothing that imports make is garbage, and looking for it takes a fifth of their time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_garbage_collection()
def load_model(arguments: argparse.Namespace) -> "AcousticModel":
    """Set threads and seed, choose the device, load the checkpoint. Raises UserError."""
    if arguments.num_threads is not None and arguments.num_threads < 1:
        raise UserError(f"--num_threads {arguments.num_threads}: is below 1; give 1 or more")
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: is negative; give 0 or more")
    if arguments.runtime == "onnx":
        return _load_onnx(arguments)

    try:
        import torch
    except ImportError:
        raise UserError("torch: is not installed; run `pip install lact-asr`, or give --runtime onnx") from None

    from lact_asr_model.acoustic_models.loading import load
    from lact_asr_model.recognition.run_description import choose_device

    AdaptationOptions(**given_ttt_options(arguments))  # a mistake in them is told before the model is loaded
    if arguments.num_threads is not None:
        torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(arguments.seed)
    device = choose_device(arguments.device)
    return load(arguments.checkpoint, language=arguments.language).to(device)


def _load_onnx(arguments: argparse.Namespace) -> "AcousticModel":
    from lact_asr_model.acoustic_models.onnx_model import load_onnx

    if arguments.checkpoint is None:
        raise UserError("--runtime onnx: needs --checkpoint, a folder of `lact-asr export`")
    if arguments.language is not None:
        raise UserError("--language: an exported model has one already; leave it out")
    return load_onnx(arguments.checkpoint, num_threads=arguments.num_threads).to(arguments.device or "cpu")


def wants_adaptation(arguments: argparse.Namespace, model: "AcousticModel") -> bool:
    """What `--use_ttt` says; where it is not given, what the checkpoint's `enable_ttt` says, which is told."""
    if arguments.use_ttt is None and getattr(getattr(model.model, "config", None), "enable_ttt", False):
        print_note(ADAPTING)
        return True
    return bool(arguments.use_ttt)


def make_transcriber(arguments: argparse.Namespace) -> "Transcriber":
    """The transcriber that the options of `transcribe` ask for. Raises UserError."""
    model = load_model(arguments)
    use_ttt = wants_adaptation(arguments, model)
    for name in {} if use_ttt else given_ttt_options(arguments):
        raise UserError(f"--ttt_{name}: has no effect without adaptation; add --use_ttt")
    options = make_ttt_options(arguments, model) if use_ttt else None
    if options is not None and options.mode == "continual" and arguments.resume:
        raise UserError("--resume: a stream cannot be gone on with, as its weights are lost; give --overwrite")

    from lact_asr_model.recognition.transcriber import Transcriber

    is_taught = options is not None and options.is_taught and arguments.beam_size > 1
    return Transcriber(
        model,
        teacher=start_decoder(arguments, model) if is_taught else None,
        decoder=start_decoder(arguments, model, for_adapted=options is not None),
        ttt_options=options,
        device=model.device,
        batch_size=arguments.batch_size,
        chunk_seconds=arguments.chunk_seconds,
        move_emission_to_cpu=arguments.move_emission_to_cpu,
        compile=arguments.compile,
    )


def output_permission(arguments: argparse.Namespace, inputs: Sequence[str | Path]) -> Permission:
    """What `transcribe` may write if it reads these files, beside those of the model and its decoder."""
    others = [arguments.checkpoint, arguments.lm, arguments.lexicon]
    found = identities([*inputs, *(path for path in others if path)])
    return Permission(found, overwrite=arguments.overwrite, resume=arguments.resume)
