"""Transcribe recordings with Whisper, to have something to compare with, and labels for recordings that have none.

    python recipes/small/transcribe_with_whisper.py DATA_DIR SUBSET OUTPUT.jsonl --model_dir WHISPER_DIR

SUBSET as for training: a LibriSpeech subset or a manifest. A line of the output holds `audio_filepath`, `text` (what
Whisper heard), `duration`, `id`, of a segment `offset` and, where known, `ref`, so the output is a manifest that
training takes. Interrupted, it goes on where it stopped. Needs faster-whisper (MIT) and a model in its format; digits
are never written, so that every word is in letters.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from faster_whisper import WhisperModel

from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.metrics import ErrorCounts, bootstrap_interval, word_errors
from lact_asr_model.text import normalize_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("subset")
    parser.add_argument("output", type=Path)
    parser.add_argument("--model_dir", type=Path, required=True, help="a Whisper model in faster-whisper's format")
    parser.add_argument("--num_threads", type=int, default=1)
    with one_line_errors():
        transcribe(parser.parse_args())


def transcribe(arguments: argparse.Namespace) -> None:
    """Write a line for every utterance that has none yet. Raises UserError."""
    utterances = read_utterances(arguments.subset, arguments.data_dir)
    for utterance in utterances:
        if not isinstance(utterance.audio_path, Path) or utterance.channel is not None:
            raise UserError(f"{utterance.id}: is a part of a file that no manifest can name; give it a file of its own")
    model = WhisperModel(str(arguments.model_dir), device="cpu", compute_type="int8", cpu_threads=arguments.num_threads)
    vocabulary = model.hf_tokenizer.get_vocab()
    digits = [index for token, index in vocabulary.items() if any(character.isdigit() for character in token)]
    done = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    with arguments.output.open("a") as output:
        for utterance in utterances[len(done) :]:
            started_seconds = time.perf_counter()
            segments, _ = model.transcribe(
                load_samples(utterance),
                language="en",
                beam_size=1,
                suppress_tokens=[-1, *digits],
                without_timestamps=True,
                condition_on_previous_text=False,
            )
            text = normalize_text(" ".join(segment.text for segment in segments))
            row = {
                "id": utterance.id,
                "audio_filepath": str(Path(utterance.audio_path).resolve()),
                **({} if utterance.offset_seconds is None else {"offset": utterance.offset_seconds}),
                "text": text,
                "duration": utterance.duration_seconds,
                "ref": utterance.text,
                "compute_seconds": round(time.perf_counter() - started_seconds, 3),
            }
            output.write(json.dumps(row) + "\n")
            output.flush()
    report([json.loads(line) for line in arguments.output.read_text().splitlines()])


def report(rows: list[dict[str, Any]]) -> None:
    """Print the speed and, where there are references, the word error rate with its 95 % interval."""
    audio_seconds = sum(row["duration"] for row in rows)
    compute_seconds = sum(row["compute_seconds"] for row in rows)
    print(f"{len(rows)} utterances, {audio_seconds / 3600:.2f} h, RTFx {audio_seconds / compute_seconds:.1f}")
    counts = [word_errors(row["ref"], row["text"]) for row in rows if row["ref"]]
    if counts:
        low, high = bootstrap_interval(counts)
        rate = sum(counts, ErrorCounts()).rate
        print(f"WER {100 * rate:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f})")


if __name__ == "__main__":
    main()
