"""What people hand a recogniser as audio: each test is a kind of file or of call that was lost or refused before."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.commands import adapt as adapt_command
from lact_asr_model.commands.transcribe import main
from lact_asr_model.recognition.transcriber import Transcriber

FILES = Path(__file__).parent / "files"
GSM_SECONDS = 4.36  # FFmpeg decodes 34880 samples at 8 kHz
Run = Callable[..., tuple[int, list[dict[str, Any]], list[str]]]


@pytest.fixture
def transcribe(checkpoint_dir: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; gives its exit code, its records and the lines on stderr."""

    def run(*arguments: object) -> tuple[int, list[dict[str, Any]], list[str]]:
        exit_code = 0
        try:
            main(["--checkpoint", str(checkpoint_dir), "--format", "jsonl", *map(str, arguments)])
        except SystemExit as exit:
            exit_code = int(exit.code or 0)
        output = capsys.readouterr()
        return exit_code, [json.loads(line) for line in output.out.splitlines()], output.err.splitlines()

    return run


def speech_like(seconds: float, sampling_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Float64 noise in syllables."""
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return rng.normal(scale=0.1, size=len(time_seconds)) * np.abs(np.sin(np.pi * time_seconds / 0.3))


def durations_seconds(records: list[dict[str, Any]]) -> list[float]:
    return [record["duration"] for record in records]


def test_gsm_with_a_wav_header_and_without_is_read(transcribe: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", speech_like(1.0), 16000)
    soundfile.write(tmp_path / "made.wav", speech_like(2.0, 8000), 8000, subtype="GSM610")
    paths = [tmp_path / "a.mp3", FILES / "gsm.wav", tmp_path / "made.wav", FILES / "headerless.gsm"]
    exit_code, records, errors = transcribe(*paths)
    assert (exit_code, errors) == (0, [])
    assert durations_seconds(records) == pytest.approx([1.0, GSM_SECONDS, 2.0, GSM_SECONDS], abs=0.01)
    assert all(record["hyp"] for record in records)


def test_gsm_in_a_manifest_and_for_adapt(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"audio_filepath": str(FILES / "gsm.wav"), "text": "AT THESE BLASPHEMOUS SOUNDS"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    output_path = tmp_path / "out.jsonl"
    arguments = ["--data_dir", tmp_path, "--subset", "m.jsonl", "--output", output_path, "--checkpoint", checkpoint_dir]
    main(list(map(str, arguments)))
    assert "error" not in capsys.readouterr().err
    (record,) = map(json.loads, output_path.read_text().splitlines())
    assert record["duration"] == pytest.approx(GSM_SECONDS, abs=0.01)
    adapt_command.main(["--audio_file", str(FILES / "gsm.wav"), "--checkpoint", str(checkpoint_dir)])
    assert "(4.36 s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("a.mp3", {}), ("a.ogg", {"subtype": "VORBIS"}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})],
)
def test_of_joined_files_both_parts_are_whole(
    transcribe: Run, tmp_path: Path, name: str, encoding: dict[str, str]
) -> None:
    parts = [tmp_path / f"{number}{name}" for number in (1, 2)]
    for seed, part in enumerate(parts):
        soundfile.write(part, speech_like(3.0 + seed, seed=seed), 16000, **encoding)
    (tmp_path / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    exit_code, records, errors = transcribe(tmp_path / name)
    assert (exit_code, errors) == (0, [])
    # An encoder's delay and padding in the middle of a joined MP3 are audio to every player.
    assert durations_seconds(records) == pytest.approx([7.0], abs=0.2 if name == "a.mp3" else 0.03)
    assert durations_seconds(records)[0] > 6.97


@pytest.mark.parametrize("chunk_seconds", [30, 5])
@pytest.mark.parametrize("percent", [60, 80])
def test_of_a_cut_wav_the_rest_is_there_whatever_its_length(
    transcribe: Run, tmp_path: Path, percent: int, chunk_seconds: int
) -> None:
    soundfile.write(tmp_path / "long.wav", speech_like(20.0), 16000)
    content = (tmp_path / "long.wav").read_bytes()
    cut_path = tmp_path / "cut.wav"
    cut_path.write_bytes(content[: len(content) * percent // 100])
    exit_code, records, errors = transcribe(cut_path, "--chunk_seconds", chunk_seconds)
    assert exit_code == 1
    assert durations_seconds(records) == pytest.approx([20.0 * percent / 100], abs=0.01)
    assert errors == [f"warning: {cut_path}: damaged or cut after {percent / 5:.1f} s; the rest is missing"]


VIDEO_AND_PHONE = {
    "x.m4a": ("aac", 16000, False),
    "x.mp4": ("aac", 44100, True),
    "x.webm": ("libopus", 48000, False),
    "x.aac": ("aac", 16000, False),
    "x.amr": ("libopencore_amrnb", 8000, False),
    "x.wma": ("wmav2", 16000, False),
}


def test_what_phones_and_browsers_record_is_read(
    transcribe: Run, tmp_path: Path, write_media, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (codec, rate, with_picture) in VIDEO_AND_PHONE.items():
        write_media(tmp_path / name, speech_like(3.0, rate).clip(-1, 1), rate, codec, with_picture=with_picture)
    exit_code, records, errors = transcribe(*(tmp_path / name for name in VIDEO_AND_PHONE))
    assert (exit_code, errors) == (0, [])
    assert durations_seconds(records) == pytest.approx([3.0] * len(VIDEO_AND_PHONE), abs=0.14)

    exit_code, globbed, errors = transcribe(tmp_path / "*.m4a")
    assert (exit_code, errors) == (0, [])
    assert globbed[0]["hyp"] == records[0]["hyp"]

    with (tmp_path / "x.m4a").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        exit_code, piped, errors = transcribe("-")
    assert (exit_code, errors) == (0, [])
    assert piped[0]["hyp"] == records[0]["hyp"]


def test_the_pauses_of_a_telephone_keep_their_length(transcribe: Run) -> None:
    exit_code, records, errors = transcribe(FILES / "pauses.amr")
    assert (exit_code, errors) == (0, [])
    assert durations_seconds(records) == pytest.approx([4.36], abs=0.01)  # 218 frames of 20 ms, 23 of comfort noise


def test_a_folder_gives_everything_that_is_readable(transcribe: Run, tmp_path: Path, write_media) -> None:
    samples = speech_like(1.0)
    for name, encoding in {"a.mp3": {}, "w64.w64": {}, "x.aiff": {}, "x.au": {}, "x.oga": {"format": "OGG"}}.items():
        soundfile.write(tmp_path / name, samples, 16000, **encoding)
    write_media(tmp_path / "x.m4a", samples, 16000, "aac")
    write_media(tmp_path / "x.webm", samples, 16000, "libopus")
    exit_code, records, errors = transcribe(tmp_path)
    assert (exit_code, errors) == (0, [])
    names = ["a.mp3", "w64.w64", "x.aiff", "x.au", "x.m4a", "x.oga", "x.webm"]
    assert [Path(record["path"]).name for record in records] == names
    assert durations_seconds(records) == pytest.approx([1.0] * 7, abs=0.03)
    assert [record["path"] for record in transcribe(tmp_path / "*.aiff")[1]] == [str(tmp_path / "x.aiff")]


@pytest.mark.parametrize("name", ["cut.mp3", "cut.flac"])
def test_of_a_damaged_file_the_good_part_is_there(transcribe: Run, tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, speech_like(10.0), 16000)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    exit_code, records, errors = transcribe(tmp_path / name)
    assert exit_code == 1
    (seconds,) = durations_seconds(records)
    assert 4.0 < seconds < 6.0
    (error,) = errors
    broke_off = re.search(rf"^warning: .*{name}: damaged or cut after (.*) s; the rest is missing$", error)
    assert broke_off is not None
    assert float(broke_off[1]) == pytest.approx(seconds, abs=0.06)
    exit_code, records, errors = transcribe(tmp_path / name, "--strict")
    assert (exit_code, records) == (2, [])
    assert errors[0].startswith("error: ")


def test_messages_about_names_that_are_not_text_can_be_printed_anywhere(checkpoint_dir: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(name)).write_text("no audio")
    command = [sys.executable, "-m", "lact_asr_model.cli", "transcribe", "--checkpoint", str(checkpoint_dir), name]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    result = subprocess.run(command, capture_output=True, env=environment)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(b"error: ")
    assert b"caf\\udce9.wav: there is no audio in it" in line or b"not a readable audio file" in line


def test_an_unfinished_wav_is_read(transcribe: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "unfinished.wav", speech_like(4.0), 16000)
    content = bytearray((tmp_path / "unfinished.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)  # what a recorder that crashed leaves behind
    (tmp_path / "unfinished.wav").write_bytes(content)
    exit_code, records, errors = transcribe(tmp_path / "unfinished.wav")
    assert (exit_code, errors) == (0, [])
    assert durations_seconds(records) == [4.0]


def test_names_with_a_dash_in_front_or_very_long(
    transcribe: Run, checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_name = "x" * 248 + ".mp3"
    for name in ("-dash.mp3", long_name, "z.mp3"):
        soundfile.write(tmp_path / name, speech_like(1.0), 16000)
    monkeypatch.chdir(tmp_path)
    exit_code, records, errors = transcribe(".")
    assert (exit_code, errors) == (0, [])
    assert [record["path"] for record in records] == ["-dash.mp3", long_name, "z.mp3"]
    assert [record["path"] for record in transcribe("./-dash.mp3")[1]] == ["-dash.mp3"]
    command = [sys.executable, "-m", "lact_asr_model.cli", "transcribe", "--checkpoint", str(checkpoint_dir)]
    result = subprocess.run([*command, "--", "-dash.mp3"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == records[0]["hyp"]


def test_arrays_of_every_type_and_a_bare_path_in_python(checkpoint_dir: Path, tmp_path: Path) -> None:
    samples = speech_like(2.0).astype(np.float32)
    soundfile.write(tmp_path / "b.wav", samples, 16000, subtype="FLOAT")
    transcriber = Transcriber(load(checkpoint_dir))
    (expected,) = transcriber.transcribe_samples([samples])
    assert expected.text
    for same in (
        np.stack([samples, samples], axis=1),
        np.stack([samples, samples]),
        samples.astype(float),
        list(samples),
    ):
        assert transcriber.transcribe_samples([same]) == [expected]
    (rounded,) = transcriber.transcribe_samples([(samples * 32767).astype("int16")])
    assert rounded.duration_seconds == 2.0
    (result,) = transcriber.transcribe_files(str(tmp_path / "b.wav"))
    assert result.transcript == expected


def test_hostile_files_in_a_folder_are_named_and_the_good_ones_transcribed(transcribe: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", speech_like(1.0), 16000)
    good = (tmp_path / "good.wav").read_bytes()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no audio at all\n" * 100)
    (tmp_path / "one_hz.wav").write_bytes(good[:24] + b"\1\0\0\0" + good[28:])
    (tmp_path / "cut.wav").write_bytes(good[: len(good) // 2])
    (tmp_path / "._good.wav").write_bytes(b"AppleDouble")
    (tmp_path / "line\nbreak.wav").write_bytes(good)
    exit_code, records, errors = transcribe(tmp_path)
    assert exit_code == 1
    assert [Path(record["path"]).name for record in records] == ["cut.wav", "good.wav", "line\nbreak.wav"]
    named = [
        re.search(r"(\S+\.(?:wav|mp3))[: ]", line.partition(": ")[2].removeprefix(f"{tmp_path}: ")) for line in errors
    ]
    assert [Path(match[1]).name for match in named if match] == [
        "._good.wav",
        "cut.wav",
        "empty.wav",
        "one_hz.wav",
        "text.mp3",
    ]
    assert len(errors) == 5
