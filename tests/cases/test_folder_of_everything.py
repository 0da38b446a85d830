"""A folder of 200 files, good, odd and hostile: every readable one is transcribed whole, every other one is named."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from lact_asr_model.commands.transcribe import main

KINDS = {  # suffix: codec, sampling rate, with a picture
    ".wav": ("pcm_s16le", 16000, False),
    ".flac": ("flac", 22050, False),
    ".mp3": ("libmp3lame", 16000, False),
    ".opus": ("libopus", 48000, False),
    ".m4a": ("aac", 44100, False),
    ".mp4": ("aac", 16000, True),
    ".mov": ("aac", 16000, True),
    ".mkv": ("flac", 16000, True),
    ".webm": ("libopus", 48000, False),
    ".aac": ("aac", 16000, False),
    ".wma": ("wmav2", 16000, False),
    ".aiff": ("pcm_s16be", 16000, False),
    ".au": ("pcm_mulaw", 8000, False),
    ".caf": ("pcm_s16le", 16000, False),
    ".w64": ("pcm_s16le", 16000, False),
    ".avi": ("pcm_s16le", 16000, True),
}
LENGTHS_SECONDS = (0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2)
NAMES = (
    *("a b{}", "-dash{}", "日本{}", "two\nlines{}", "UPPER{}", "dots.in.name{}", "'quoted'{}"),
    "x" * 200 + "{}",
)
HOSTILE = {
    "empty.wav": b"",
    "zeros.mp3": bytes(3000),
    "text.flac": b"This is not audio.\n" * 50,
    "picture.ogg": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
    "header-only.wav": b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00",
    "playlist.m4a": b"#EXTM3U\n/etc/passwd\n",
    "noise.opus": np.random.default_rng(0).bytes(4000),
    "page.mkv": b"<html></html>",
}
LEFT_OUT = {"notes.txt": b"hello", "data.json": b"{}", "._x.wav": bytes(100), ".hidden.wav": bytes(100), "README": b"#"}


def speech_like(seconds: float, sampling_rate: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return (rng.normal(scale=0.1, size=len(time_seconds)) * np.abs(np.sin(np.pi * time_seconds / 0.3))).clip(-1, 1)


def seconds_by_ffmpeg(path: Path) -> float:
    """What FFmpeg decodes of a file, by its own count of samples."""
    with path.open("rb") as file, av.open(file) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.fixture
def folder(tmp_path: Path, write_media) -> Path:
    root = tmp_path / "everything"
    for number, (suffix, (codec, rate, with_picture)) in enumerate(KINDS.items()):
        place = root / suffix[1:]
        place.mkdir(parents=True)
        for index, seconds in enumerate(LENGTHS_SECONDS):
            samples = speech_like(seconds, rate, 10 * number + index)
            write_media(place / f"{index}{suffix}", samples, rate, codec, with_picture=with_picture)
    odd = root / "odd"
    odd.mkdir()
    for number, name in enumerate(NAMES):
        for suffix in (".wav", ".FLAC", ".mp3", ".ogg"):
            path = odd / name.format(f"{number}{suffix}")
            soundfile.write(path, speech_like(0.5, 16000, number), 16000, format=suffix[1:].upper())
    for rate in (8000, 11025, 44100, 48000, 96000):
        for channels in (1, 2, 6):
            samples = np.stack([speech_like(0.5, rate, channel) for channel in range(channels)], axis=1)
            soundfile.write(odd / f"{rate}-{channels}.wav", samples, rate)
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "GSM610", "IMA_ADPCM"):
        soundfile.write(odd / f"{subtype}.wav", speech_like(0.5, 8000, 5), 8000, subtype=subtype)
    for number in range(5):
        unfinished = bytearray((root / "wav" / f"{number}.wav").read_bytes())
        unfinished[4:8] = unfinished[unfinished.index(b"data") + 4 : unfinished.index(b"data") + 8] = b"\xff" * 4
        (odd / f"unfinished-{number}.wav").write_bytes(unfinished)
    for number in range(5):
        content = (root / "flac" / f"{number + 2}.flac").read_bytes()
        (odd / f"cut-{number}.flac").write_bytes(content[: len(content) * 2 // 3])
    bad = root / "hostile"
    bad.mkdir()
    for name, content in {**HOSTILE, **LEFT_OUT}.items():
        (bad / name).write_bytes(content)
    (bad / "loop").symlink_to(root)
    (bad / "gone.wav").symlink_to(bad / "nowhere.wav")
    return root


def test_every_readable_file_is_transcribed_whole_and_every_other_one_is_named(
    folder: Path, checkpoint_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and "loop" not in path.parts]
    assert len(files) > 190
    with pytest.raises(SystemExit) as exit:
        main(["--checkpoint", str(checkpoint_dir), "--format", "jsonl", str(folder)])
    assert exit.value.code == 1
    output = capsys.readouterr()
    records = {Path(record["path"]): record for record in map(json.loads, output.out.splitlines())}
    readable = [path for path in files if path.name not in {*HOSTILE, *LEFT_OUT}]
    assert set(records) == set(readable)
    for path, record in records.items():
        if not path.name.startswith("cut-"):
            assert record["duration"] == pytest.approx(seconds_by_ffmpeg(path), abs=0.02), path
    assert "Traceback" not in output.err
    for name in (*HOSTILE, *LEFT_OUT, *(f"cut-{number}.flac" for number in range(5))):
        assert name in output.err, name
