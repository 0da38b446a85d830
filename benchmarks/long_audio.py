"""An hour of speech in one file, plain and adapted: processor time for a second of audio, and memory.

    python benchmarks/long_audio.py [--minutes M] [--quick] [--write]

The bundled recordings are joined, again and again, to one file, which `lact-asr transcribe` reads in a process of its
own, start included. The real-time factor is seconds of processor time, of all threads, for a second of audio.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import measuring
import soundfile

from lact_asr_model.audio import SAMPLING_RATE, load_audio
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.evaluation.summary import markdown_table

QUICK_MINUTES = 0.25
MODES = {"plain": (), "adapted": ("--use_ttt",)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="default: 60")
    measuring.run(parser, _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    audio_seconds = 60 * (QUICK_MINUTES if arguments.quick else arguments.minutes)
    rows = [["", "real-time factor", "audio s / s", "peak memory, MB"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.flac"
        _write_speech(path, round(audio_seconds * SAMPLING_RATE))
        for name, options in MODES.items():
            usage = measuring.run_lact_asr(
                "transcribe", str(path), "--num_threads", str(arguments.num_threads), *options
            )
            factor = usage.seconds / audio_seconds
            rows.append([name, f"{factor:.3f}", f"{1 / factor:.1f}", f"{usage.megabytes:.0f}"])
    return f"{audio_seconds / 60:g} minutes of speech:\n\n{markdown_table(rows)}"


def _write_speech(path: Path, num_samples: int) -> None:
    """The bundled recordings one after the other, until there are enough samples."""
    with soundfile.SoundFile(path, "w", SAMPLING_RATE, channels=1) as file:
        for recording in cycle(sorted(RECORDINGS_DIR.glob("*.mp3"))):
            samples = load_audio(recording)[: num_samples - file.frames]
            file.write(samples)
            if file.frames >= num_samples:
                break


if __name__ == "__main__":
    main()
