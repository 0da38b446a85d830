"""Recordings of every kind, good and bad."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

SAMPLING_RATE = 16000


def speech_like(seconds: float, seed: int = 0, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Float32 noise in syllables of 0.2 s, each with a pitch of its own."""
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * sampling_rate)) / sampling_rate
    pitch_hz = rng.uniform(150, 1500, size=int(seconds / 0.2) + 1)[(time_seconds / 0.2).astype(int)]
    envelope = np.abs(np.sin(np.pi * time_seconds / 0.2))
    noise = rng.normal(scale=0.01, size=len(time_seconds))
    return (0.3 * envelope * np.sin(2 * np.pi * pitch_hz * time_seconds) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def recordings_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good: mono, stereo_44khz, telephone_8khz, compressed; inaudible: short_10ms, silence; bad: the rest."""
    folder = tmp_path_factory.mktemp("recordings")
    soundfile.write(folder / "mono.wav", speech_like(1.3), SAMPLING_RATE)
    stereo = np.stack([speech_like(1.1, seed, 44100) for seed in (1, 2)], axis=1)
    soundfile.write(folder / "stereo_44khz.flac", stereo, 44100)
    soundfile.write(folder / "telephone_8khz.wav", speech_like(0.9, 3, 8000), 8000)
    soundfile.write(folder / "compressed.mp3", speech_like(1.2, 4), SAMPLING_RATE)
    soundfile.write(folder / "short_10ms.wav", speech_like(0.01), SAMPLING_RATE)
    soundfile.write(folder / "silence.wav", np.zeros(SAMPLING_RATE, dtype=np.float32), SAMPLING_RATE)
    (folder / "empty.wav").touch()
    soundfile.write(folder / "no_samples.wav", np.zeros(0, dtype=np.float32), SAMPLING_RATE)
    broken = speech_like(1.0)
    broken[5000] = np.nan
    soundfile.write(folder / "nan.wav", broken, SAMPLING_RATE, subtype="FLOAT")
    (folder / "corrupt.wav").write_bytes(b"RIFF\x10\x00\x00\x00WAVEjunk" + bytes(range(256)))
    return folder
