"""Is every word in its part? Utterances joined to long ones, split by `lact-asr split-long`, and recognised again.

    python benchmarks/splitting.py --data_dir DATA_DIR --subset dev-mini

A part whose transcript says more or less than its audio costs word errors, so the parts should have about as many as
the utterances that were joined. As a control, the confidence of transcripts of other recordings is shown too.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.commands import split_long
from lact_asr_model.commands.options import add_model_options, load_model
from lact_asr_model.data.joining import join_neighbours, join_samples
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.metrics import ErrorCounts, word_errors
from lact_asr_model.recognition.splitting import split_utterance
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.text import normalize_text


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--subset", default="dev-mini")
    parser.add_argument("--max_utterances", type=int, help="only the first ones (default: all)")
    parser.add_argument("--joined_seconds", type=float, default=60.0, help="the longest; the shortest is half as long")
    parser.add_argument("--max_seconds", type=float, default=15.6)
    add_model_options(parser)
    arguments = parser.parse_args(argv)
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        _run(arguments, Path(folder))


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    rng = np.random.default_rng(arguments.seed)
    utterances = read_utterances(arguments.subset, arguments.data_dir)[: arguments.max_utterances]
    groups = join_neighbours(
        [utterance.duration_seconds for utterance in utterances],
        [utterance.speaker for utterance in utterances],
        rng,
        share=1.0,
        longest_seconds=arguments.joined_seconds,
    )
    lines = []
    joined: list[tuple[np.ndarray, str]] = []
    for number, group in enumerate(groups):
        samples = join_samples([load_samples(utterances[index]) for index in group], rng)
        text = " ".join(utterances[index].text or "" for index in group)
        joined.append((samples, text))
        soundfile.write(folder / f"{number}.flac", samples, SAMPLING_RATE)
        lines.append(json.dumps({"audio_filepath": f"{number}.flac", "text": text}) + "\n")
    (folder / "joined.jsonl").write_text("".join(lines))

    command = [
        "--data_dir",
        folder,
        "--subset",
        "joined.jsonl",
        "--output_dir",
        folder / "parts",
        "--min_confidence",
        0,
    ]
    command += ["--max_seconds", arguments.max_seconds]
    command += ["--checkpoint", arguments.checkpoint] if arguments.checkpoint else []
    command += ["--num_threads", arguments.num_threads] if arguments.num_threads else []
    split_long.main([str(word) for word in command])
    model = load_model(arguments)
    transcriber = Transcriber(model, device=model.device)
    parts = read_utterances(str(folder / "parts" / split_long.MANIFEST))
    for name, these in (("parts", parts), ("joined utterances, one by one", utterances)):
        total, seconds = _errors(transcriber, these), [utterance.duration_seconds for utterance in these]
        print(
            f"{name}: {len(these)}, {min(seconds):.1f} to {max(seconds):.1f} s, {total.reference_length} words, "
            f"{total.rate:.1%} WER ({total.insertions} inserted, {total.deletions} deleted)",
            flush=True,
        )
    manifest = [json.loads(line) for line in (folder / "parts" / split_long.MANIFEST).read_text().splitlines()]
    _show("confidence of the parts", [part["confidence"] for part in manifest])
    wrong = []
    for (samples, _), (_, text) in zip(joined, joined[1:] + joined[:1], strict=True):
        try:
            wrong += [part.confidence for part in split_utterance(model, samples, text, arguments.max_seconds)]
        except UserError:
            continue
    _show("the same with the transcript of another recording", wrong)


def _errors(transcriber: Transcriber, utterances: Sequence[Utterance]) -> ErrorCounts:
    total = ErrorCounts()
    for utterance, result in zip(utterances, transcriber.transcribe_utterances(utterances), strict=True):
        heard = normalize_text(result.transcript.text) if result.transcript else ""
        total += word_errors(utterance.text or "", heard)
    return total


def _show(name: str, values: Sequence[float]) -> None:
    quantiles = np.quantile(values, [0, 0.01, 0.1, 0.5, 0.9, 0.99, 1])
    print(
        f"{name}: {', '.join(f'{value:.2f}' for value in quantiles)} (quantiles 0, .01, .1, .5, .9, .99, 1)", flush=True
    )


if __name__ == "__main__":
    main()
