"""What the layer memory does for a recognition, and whether listening longer helps.

    python benchmarks/layer_memory.py --data_dir DATA_DIR --subset dev-mini --conditions clean,noise:5 --noise_dir DIR

Neighbouring utterances of a speaker are joined to recordings of about a minute, corrupted as a whole, and recognised in
one piece: as the model is, with the per-utterance update of the fast weights left out (`off`), and with the memory's
whole branch set to zero (`zeroed`); then each utterance once more by itself, cut from the same audio (`alone`). The
first table has word error rates with 95 % bootstrap intervals over recordings, and differences from the model as it is,
paired. The second has those of the utterances by where in the recording their middle lies, and what hearing the whole
recording changes there. With --joined_seconds 0, every utterance is a recording, and none is recognised once more.
--output_dir gets both tables as `results.json`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.data.conditions import Condition, parse_conditions
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.errors import one_line_errors
from lact_asr_model.evaluation.comparison import corrupt, weights_digest
from lact_asr_model.evaluation.summary import markdown_table, percent_of
from lact_asr_model.files import write_atomically
from lact_asr_model.lact_layer import FastWeightMemory
from lact_asr_model.metrics import ErrorCounts, bootstrap_interval, paired_bootstrap_interval, word_errors
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.recognition.run_description import describe_run
from lact_asr_model.text import normalize_text

PAUSE_SECONDS = 0.4
BIN_SECONDS = 10


def initial_weights(weights: FastWeights, *others: Tensor, **options: object) -> FastWeights:
    return weights


def zeros(memory: FastWeightMemory, hidden: Tensor, *others: object) -> Tensor:
    return torch.zeros_like(hidden)


AS_IT_IS = "as it is"
MODES: dict[str, AbstractContextManager] = {
    AS_IT_IS: nullcontext(),
    "off": patch("lact_asr_model.lact_layer.update_fast_weights", initial_weights),
    "zeroed": patch.object(FastWeightMemory, "forward", zeros),
}
ALONE = "alone"


@dataclass(frozen=True)
class Recording:
    """Utterances one after the other; spans_seconds has the begin and the end of each."""

    utterances: list[Utterance]
    samples: np.ndarray
    spans_seconds: list[tuple[float, float]]


def join(utterances: Sequence[Utterance], joined_seconds: float) -> Iterator[list[Utterance]]:
    """Neighbours of one speaker, at most so many seconds; what is shorter than three quarters of that is left out."""
    for speaker, run in groupby(utterances, key=lambda utterance: utterance.speaker):
        piece: list[Utterance] = []
        for utterance in run:
            if not joined_seconds or speaker is None:
                yield [utterance]
                continue
            if piece and seconds(piece) + utterance.duration_seconds > joined_seconds:
                if seconds(piece) >= 0.75 * joined_seconds:
                    yield piece
                piece = []
            piece.append(utterance)
        if piece and seconds(piece) >= 0.75 * joined_seconds:
            yield piece


def seconds(piece: Sequence[Utterance]) -> float:
    return sum(utterance.duration_seconds + PAUSE_SECONDS for utterance in piece)


def record(piece: list[Utterance], condition: Condition, seed: int) -> Recording:
    parts, spans, start = [], [], 0.0
    for utterance in piece:
        samples = load_samples(utterance)
        end = start + len(samples) / SAMPLING_RATE
        spans.append((start, end))
        parts += [samples, np.zeros(round(PAUSE_SECONDS * SAMPLING_RATE), dtype=np.float32)]
        start = end + PAUSE_SECONDS
    return Recording(piece, corrupt(np.concatenate(parts[:-1]), condition, piece[0].id, seed), spans)


def recognize(model: AcousticModel, samples: np.ndarray) -> list[tuple[float, str]]:
    """The words, each with the time of its middle in seconds."""
    logits, _ = model.recognize(model.prepare([samples]))
    words = greedy_decode(torch.log_softmax(logits[0], dim=-1), model.vocabulary).words
    return [((word.start_frame + word.end_frame) / 2 * model.frame_seconds, word.word) for word in words]


def errors_by_utterance(recording: Recording, words: Sequence[tuple[float, str]]) -> list[ErrorCounts]:
    """A word belongs to the utterance in whose span, up to the middle of the pauses around it, its middle lies."""
    counts = []
    for index, (utterance, (start, end)) in enumerate(zip(recording.utterances, recording.spans_seconds, strict=True)):
        low = -np.inf if index == 0 else start - PAUSE_SECONDS / 2
        high = np.inf if index == len(recording.utterances) - 1 else end + PAUSE_SECONDS / 2
        hypothesis = " ".join(word for time, word in words if low <= time < high)
        counts.append(word_errors(utterance.text or "", normalize_text(hypothesis)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="default: the bundled model")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--subset", required=True)
    parser.add_argument("--joined_seconds", type=float, default=60.0)
    parser.add_argument("--max_recordings", type=int)
    parser.add_argument("--conditions", default="clean")
    parser.add_argument("--noise_dir")
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path)
    with one_line_errors():
        run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.num_threads)
    model = load(arguments.checkpoint)
    pieces = list(join(read_utterances(arguments.subset, arguments.data_dir), arguments.joined_seconds))
    if arguments.max_recordings is not None:
        wanted = min(arguments.max_recordings, len(pieces))
        pieces = [pieces[index * len(pieces) // wanted] for index in range(wanted)]
    rows: list[dict[str, Any]] = []
    by_position: list[dict[str, Any]] = []
    for condition in parse_conditions(arguments.conditions, noise_dir=arguments.noise_dir):
        measured = measure(model, pieces, condition, arguments.seed)
        rows += compare(measured, condition, arguments.seed)
        if ALONE in measured.counts:
            by_position += compare_by_position(measured, condition, arguments.seed)
            print(f"\n{format_positions(by_position, condition.name)}", flush=True)
    if arguments.output_dir is not None:
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        results = {
            "weights_sha256": weights_digest(model.model),
            "subset": arguments.subset,
            "seed": arguments.seed,
            **describe_run(model),
            "results": rows,
            "by_position": by_position,
        }
        write_atomically(arguments.output_dir / "results.json", json.dumps(results, indent=2) + "\n")


@dataclass(frozen=True)
class Measured:
    """counts: errors of every utterance of every recording, by mode. middles: where in it each lies, in seconds."""

    counts: dict[str, list[list[ErrorCounts]]]
    middles: list[list[float]]

    def of_bin(self, mode: str, index: int) -> list[ErrorCounts]:
        """For each recording, the errors of its utterances in those ten seconds."""
        chosen = []
        for counts, middles in zip(self.counts[mode], self.middles, strict=True):
            inside = (count for count, middle in zip(counts, middles, strict=True) if middle // BIN_SECONDS == index)
            chosen.append(sum(inside, ErrorCounts()))
        return chosen


def measure(model: AcousticModel, pieces: Sequence[list[Utterance]], condition: Condition, seed: int) -> Measured:
    """Recognise all pieces under the condition in every mode."""
    is_joined = any(len(piece) > 1 for piece in pieces)
    counts: dict[str, list[list[ErrorCounts]]] = {mode: [] for mode in (*MODES, *([ALONE] if is_joined else []))}
    middles: list[list[float]] = []
    for piece in tqdm(pieces, desc=condition.name, disable=None):
        recording = record(piece, condition, seed)
        middles.append([(start + end) / 2 for start, end in recording.spans_seconds])
        for mode, changed in MODES.items():
            with changed:
                counts[mode].append(errors_by_utterance(recording, recognize(model, recording.samples)))
        if not is_joined:
            continue
        alone = []
        for utterance, (start, end) in zip(piece, recording.spans_seconds, strict=True):
            part = recording.samples[round(start * SAMPLING_RATE) : round(end * SAMPLING_RATE)]
            text = " ".join(word for _, word in recognize(model, part))
            alone.append(word_errors(utterance.text or "", normalize_text(text)))
        counts[ALONE].append(alone)
    return Measured(counts, middles)


def compare(measured: Measured, condition: Condition, seed: int) -> list[dict[str, Any]]:
    """Print the first table, and give its rows: one for each mode."""
    totals = {mode: [sum(each, ErrorCounts()) for each in of_mode] for mode, of_mode in measured.counts.items()}
    base, num_utterances = totals[AS_IT_IS], sum(map(len, measured.middles))
    print(f"\n{condition.name}: {len(base)} recordings, {num_utterances} utterances\n")
    print("| memory | WER % (95 %) | minus as it is (95 %) |\n|---|---|---|")
    rows = []
    for mode, of_mode in totals.items():
        row: dict[str, Any] = {
            "condition": condition.name,
            "memory": mode,
            "num_recordings": len(base),
            "num_utterances": num_utterances,
            "wer": sum(of_mode, ErrorCounts()).rate,
            "wer_interval": bootstrap_interval(of_mode, seed=seed),
        }
        if mode != AS_IT_IS:
            row |= difference(of_mode, base, seed)
        print(f"| {mode} | {percent_of('wer')(row)} | {percent_of('wer_difference', sign='+')(row)} |")
        rows.append(row)
    return rows


def compare_by_position(measured: Measured, condition: Condition, seed: int) -> list[dict[str, Any]]:
    """The rows of the second table: one for every ten seconds of a recording."""
    rows = []
    for index in sorted({int(middle // BIN_SECONDS) for of_piece in measured.middles for middle in of_piece}):
        chosen = {mode: measured.of_bin(mode, index) for mode in measured.counts}
        totals = {mode: sum(of_mode, ErrorCounts()) for mode, of_mode in chosen.items()}
        rows.append(
            {
                "condition": condition.name,
                "seconds": [index * BIN_SECONDS, (index + 1) * BIN_SECONDS],
                "num_words": totals[AS_IT_IS].reference_length,
                "wer": {mode: total.rate for mode, total in totals.items()},
                **difference(chosen[AS_IT_IS], chosen[ALONE], seed),
            }
        )
    return rows


def difference(counts: Sequence[ErrorCounts], base: Sequence[ErrorCounts], seed: int) -> dict[str, Any]:
    """The rate of `counts` minus that of `base`, with its interval, paired."""
    rate, base_rate = (sum(each, ErrorCounts()).rate for each in (counts, base))
    return {
        "wer_difference": rate - base_rate,
        "wer_difference_interval": paired_bootstrap_interval(counts, base, seed=seed),
    }


def format_positions(rows: Sequence[dict[str, Any]], condition: str) -> str:
    """What `compare_by_position` found under the condition, as a table."""
    chosen = [row for row in rows if row["condition"] == condition]
    modes = list(chosen[0]["wer"])
    table = [["middle of the utterance, s", "words", *modes, "as it is minus alone (95 %)"]]
    for row in chosen:
        rates = (f"{100 * row['wer'][mode]:.1f}" for mode in modes)
        span = "{} to {}".format(*row["seconds"])
        table.append([span, str(row["num_words"]), *rates, percent_of("wer_difference", sign="+")(row)])
    return markdown_table(table)


if __name__ == "__main__":
    main()
