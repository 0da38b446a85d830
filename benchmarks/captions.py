"""Live captions against the transcript of the whole: how late words become stable, how many are wrong, what it costs.

    python benchmarks/captions.py [--data_dir DATA --subset dev-mini] [--context_seconds 2,4,8] [--step_seconds 1]

Recordings (the bundled ones by default) are joined into one stream. It is played to the captions as it would come from
a microphone, by a clock that is not waited for: audio goes on while a pass is computed, and the next pass hears what
has come meanwhile. The latency of a word is from its end in the audio until it is stable. WER is against the transcript
that `transcribe` makes of the same audio, and against the references. All times are of the processor.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.commands.options import add_decoding_options, add_model_options, load_model, start_decoder
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.errors import one_line_errors
from lact_asr_model.metrics import word_errors
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.recognition.transcript import TimedWord
from lact_asr_model.serving.caption_window import CaptionWindow, caption

_PIECE_SAMPLES = SAMPLING_RATE // 10


@dataclass
class Playback:
    """Audio that arrives by a clock, and a recogniser that takes the processor time that it needs."""

    samples: np.ndarray
    transcriber: Transcriber
    now_seconds: float = 0.0
    compute_seconds: float = 0.0

    def chunks(self) -> Iterator[np.ndarray]:
        """What has arrived whenever it is asked for, at least one piece."""
        position = 0
        while position < len(self.samples):
            arrived = max(round(self.now_seconds * SAMPLING_RATE), position + _PIECE_SAMPLES)
            yield self.samples[position:arrived]
            position = min(arrived, len(self.samples))
            self.now_seconds = max(self.now_seconds, position / SAMPLING_RATE)

    def recognize(self, samples: np.ndarray) -> list[TimedWord]:
        start_seconds = time.process_time()
        words = self.transcriber.recognize([samples])[0].words
        seconds = time.process_time() - start_seconds
        self.now_seconds += seconds
        self.compute_seconds += seconds
        return words


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=RECORDINGS_DIR)
    parser.add_argument("--subset", default=str(RECORDINGS_DIR / "manifest.jsonl"))
    parser.add_argument("--max_utterances", type=int, metavar="N")
    parser.add_argument("--context_seconds", default="4", metavar="LIST")
    parser.add_argument("--step_seconds", default="1", metavar="LIST")
    add_decoding_options(parser)
    add_model_options(parser)
    with one_line_errors():
        _measure(parser.parse_args())


def _measure(arguments: argparse.Namespace) -> None:
    utterances = read_utterances(arguments.subset, arguments.data_dir)[: arguments.max_utterances]
    samples = np.concatenate([load_samples(utterance) for utterance in utterances])
    reference = " ".join(utterance.text or "" for utterance in utterances)
    seconds = len(samples) / SAMPLING_RATE
    model = load_model(arguments)
    transcriber = Transcriber(model, decoder=start_decoder(arguments, model), device=model.device)
    start_seconds = time.process_time()
    whole = transcriber.transcribe_samples([samples])[0].text
    whole_cost = (time.process_time() - start_seconds) / seconds

    print(f"{seconds:.0f} s of audio, {len(whole.split())} words recognised as a whole\n")
    print("| step s | context s | latency p50 s | p95 s | WER % to `transcribe` | WER % | CPU s / s |")
    print("|---|---|---|---|---|---|---|")
    print(f"| `transcribe` | | | | 0 | {_wer(reference, whole)} | {whole_cost:.2f} |")
    for step in _numbers(arguments.step_seconds):
        for context in _numbers(arguments.context_seconds):
            playback = Playback(samples, transcriber)
            latencies, text = [], []
            for captions in caption(playback.chunks(), playback.recognize, CaptionWindow(step, context)):
                latencies += [playback.now_seconds - word.end_seconds for word in captions.stable]
                text += [word.word for word in captions.stable]
            p50, p95 = np.percentile(latencies, [50, 95])
            heard = " ".join(text)
            print(
                f"| {step:g} | {context:g} | {p50:.2f} | {p95:.2f} | {_wer(whole, heard)} | {_wer(reference, heard)} | "
                f"{playback.compute_seconds / seconds:.2f} |",
                flush=True,
            )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _wer(reference: str, hypothesis: str) -> str:
    return f"{100 * word_errors(reference, hypothesis).rate:.1f}"


if __name__ == "__main__":
    main()
