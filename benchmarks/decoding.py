"""Decoders side by side on the same emissions: seconds, speed, word errors.

    python benchmarks/decoding.py --data_dir DATA --subset dev-mini [--max_utterances N] [--checkpoint PATH]

Ours: greedy, any words without and with the language model, the words of its lexicon. Peers: an argmax with torch, and
pyctcdecode, for which the script makes an environment of its own (the first time; pip). All searches have the same beam
and weights and run in one thread; loading is not counted in their seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lact_asr_model.commands.options import (
    add_decoding_options,
    add_model_options,
    load_model,
    make_decoding_options,
)
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.decoding.beam_search import BeamSearchDecoder
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.hypothesis import Hypothesis
from lact_asr_model.decoding.kenlm_programs import default_kenlm_dir
from lact_asr_model.decoding.language_model import LanguageModel, load_language_model
from lact_asr_model.decoding.options import NONE, DecodingOptions
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.evaluation.emissions import compute_emissions
from lact_asr_model.metrics import ErrorCounts, area_under_roc, bootstrap_interval, correct_words, word_errors
from lact_asr_model.recognition.run_description import describe_run
from lact_asr_model.text import BLANK, WORD_SEPARATOR

PEER_PACKAGES = ("pyctcdecode==0.5.0", "ufal.kenlm==26.4.1")


@dataclass(frozen=True)
class Run:
    """What a decoder made of all emissions. confidence_auc: how well word confidences tell right from wrong words."""

    name: str
    lm: str
    texts: list[str]
    seconds: float
    load_seconds: float
    confidence_auc: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the LibriSpeech subsets or manifests")
    parser.add_argument("--subset", required=True, help="data set with references")
    parser.add_argument("--max_utterances", type=int, metavar="N", help="only the first N utterances")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results there as JSON")
    parser.add_argument("--no_peers", action="store_true", help="leave pyctcdecode out")
    parser.add_argument(
        "--peer_dir",
        type=Path,
        default=default_kenlm_dir().parent / "pyctcdecode",
        metavar="DIR",
        help="environment of pyctcdecode (default: %(default)s)",
    )
    add_decoding_options(parser, beam_size=50)
    add_model_options(parser)
    arguments = parser.parse_args()
    arguments.num_threads = arguments.num_threads or 1
    with one_line_errors():
        _benchmark(arguments)


def _benchmark(arguments: argparse.Namespace) -> None:
    utterances = read_utterances(arguments.subset, arguments.data_dir)[: arguments.max_utterances]
    options = make_decoding_options(arguments)
    language_model = load_language_model(options.lm)
    model = load_model(arguments)
    vocabulary = model.vocabulary

    recordings = [load_samples(utterance) for utterance in utterances]
    start_seconds = time.perf_counter()
    emissions = compute_emissions(model, recordings)
    acoustic_seconds = time.perf_counter() - start_seconds
    references = [utterance.text or "" for utterance in utterances]
    audio_seconds = sum(utterance.duration_seconds for utterance in utterances)

    without_lm = replace(options, lm=NONE, lm_weight=None, word_score=None)
    any_words = replace(options, lexicon=NONE)
    runs = [
        _run_ours("greedy", NONE, lambda: make_decoder(DecodingOptions(), vocabulary), emissions, references),
        _run_argmax(emissions, vocabulary),
        _run_ours("any words", NONE, lambda: make_decoder(without_lm, vocabulary), emissions, references),
        _run_ours("any words", options.lm, lambda: make_decoder(any_words, vocabulary), emissions, references),
        _run_ours("lexicon", options.lm, lambda: make_decoder(options, vocabulary), emissions, references),
    ]
    if not arguments.no_peers:
        decoder = make_decoder(any_words, vocabulary)
        assert isinstance(decoder, BeamSearchDecoder)
        runs += _run_pyctcdecode(arguments.peer_dir, decoder, language_model, emissions)

    run = describe_run(model)
    print(
        f"{len(utterances)} utterances of {arguments.subset}, {audio_seconds:.0f} s; beam {options.beam_size}; "
        f"acoustic model {acoustic_seconds:.2f} s, {run['num_threads']} thread, {run['hardware']}\n"
    )
    print(
        "| decoder | LM | WER % | 95 % | seconds | RTFx | of the acoustic model's time | loading s | confidence AUC |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    records = []
    for result in runs:
        counts = [word_errors(*pair) for pair in zip(references, result.texts, strict=True)]
        low, high = bootstrap_interval(counts)
        wer = sum(counts, ErrorCounts()).rate
        auc = "" if result.confidence_auc is None else f"{result.confidence_auc:.3f}"
        print(
            f"| {result.name} | {result.lm} | {100 * wer:.2f} | {100 * low:.2f} to {100 * high:.2f} "
            f"| {result.seconds:.2f} | {audio_seconds / result.seconds:.0f} | {result.seconds / acoustic_seconds:.0%} "
            f"| {result.load_seconds:.2f} | {auc} |"
        )
        records.append(
            {
                "decoder": result.name,
                "lm": result.lm,
                "wer": wer,
                "interval_95": [low, high],
                "seconds": result.seconds,
                "rtfx": audio_seconds / result.seconds,
                "load_seconds": result.load_seconds,
                "confidence_auc": result.confidence_auc,
            }
        )
    if arguments.output:
        report = {"subset": arguments.subset, "audio_seconds": audio_seconds, "acoustic_seconds": acoustic_seconds}
        arguments.output.write_text(json.dumps({**report, "run": run, "results": records}, indent=2) + "\n")


def _run_ours(
    name: str, lm: str, make: Callable[[], Any], emissions: Sequence[np.ndarray], references: Sequence[str]
) -> Run:
    start_seconds = time.perf_counter()
    decoder = make()
    load_seconds = time.perf_counter() - start_seconds
    start_seconds = time.perf_counter()
    hypotheses: list[Hypothesis] = [decoder.decode(log_probs) for log_probs in emissions]
    seconds = time.perf_counter() - start_seconds
    confidences = [word.confidence for hypothesis in hypotheses for word in hypothesis.words]
    is_correct = [
        label
        for reference, hypothesis in zip(references, hypotheses, strict=True)
        for label in correct_words(reference, hypothesis.text)
    ]
    texts = [hypothesis.text for hypothesis in hypotheses]
    return Run(f"lact-asr, {name}", lm, texts, seconds, load_seconds, area_under_roc(confidences, is_correct))


def _run_argmax(emissions: Sequence[np.ndarray], vocabulary: Sequence[str]) -> Run:
    """The usual few lines of torch."""
    start_seconds = time.perf_counter()
    texts = []
    for log_probs in emissions:
        path = torch.unique_consecutive(torch.from_numpy(log_probs).argmax(dim=-1)).tolist()
        letters = "".join(vocabulary[symbol] for symbol in path if not vocabulary[symbol].startswith("<"))
        texts.append(" ".join(letters.replace(WORD_SEPARATOR, " ").split()))
    return Run("torch argmax", NONE, texts, time.perf_counter() - start_seconds, 0.0)


def _run_pyctcdecode(
    environment_dir: Path, ours: BeamSearchDecoder, language_model: LanguageModel, emissions: Sequence[np.ndarray]
) -> list[Run]:
    """pyctcdecode without and with the language model, with the weights and thresholds of our decoder."""
    python = environment_dir / "bin" / "python"
    if not (environment_dir / "complete").is_file():
        print(f"Making an environment for pyctcdecode in {environment_dir} ...", file=sys.stderr)
        venv.create(environment_dir, with_pip=True, clear=True)
        try:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        except subprocess.CalledProcessError:
            raise UserError("pyctcdecode: cannot be installed; see above, or leave it out with --no_peers") from None
        (environment_dir / "complete").touch()

    options = ours.options
    with_lm = {
        "kenlm_model_path": str(language_model.path),
        "unigrams": [entry.word for entry in language_model.lexicon or ()],
        "alpha": ours.weights.lm_weight,
        "beta": ours.weights.word_score,
    }
    settings = {
        "labels": [{BLANK: "", WORD_SEPARATOR: " "}.get(symbol, symbol) for symbol in ours.vocabulary],
        "search": {
            "beam_width": options.beam_size,
            "beam_prune_logp": -options.beam_threshold,
            "token_min_logp": -options.beam_threshold / 2,
        },
        "runs": [{"name": NONE, "decoder": {}}, {"name": options.lm, "decoder": with_lm}],
    }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "emissions.npz", *emissions)
        (Path(folder) / "settings.json").write_text(json.dumps(settings))
        peer = Path(__file__).with_name("pyctcdecode_peer.py")
        process = subprocess.run([python, peer, folder], capture_output=True, text=True)
        if process.returncode != 0:
            raise UserError(f"pyctcdecode: failed ({process.stderr.strip().splitlines()[-1]}); see --no_peers")
        results = json.loads((Path(folder) / "results.json").read_text())
    return [
        Run("pyctcdecode 0.5.0", result["name"], result["texts"], result["seconds"], result["load_seconds"])
        for result in results
    ]


if __name__ == "__main__":
    main()
