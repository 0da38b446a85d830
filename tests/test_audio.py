"""Audio files of every kind, whole and broken."""

import os
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model import audio
from lact_asr_model.audio import (
    SAMPLING_RATE,
    AudioReader,
    audio_duration_seconds,
    count_channels,
    has_audio,
    load_audio,
    read_audio,
    resample,
)
from lact_asr_model.errors import UserError

ENCODINGS = {
    "a.flac": {},
    "a.wav": {"subtype": "PCM_16"},
    "a.mp3": {},
    "a.ogg": {"subtype": "VORBIS"},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
}


def tone(sampling_rate: int, seconds: float = 1.0, frequency_hz: float = 440.0) -> np.ndarray:
    time_seconds = np.arange(int(sampling_rate * seconds)) / sampling_rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time_seconds)).astype(np.float32)


def assert_one_line_error(path: Path, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "; " in message and "\n" not in message


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("sampling_rate", [8000, 16000, 48000])
def test_every_format_at_every_rate_gives_the_same_tone(tmp_path: Path, name: str, sampling_rate: int) -> None:
    soundfile.write(tmp_path / name, tone(sampling_rate), sampling_rate, **ENCODINGS[name])
    samples = load_audio(tmp_path / name)
    assert samples.dtype == np.float32
    tolerance = 400 if name == "a.ogg" else 0  # FFmpeg takes the ends of very short Vorbis streams by the block
    assert abs(len(samples) - SAMPLING_RATE) <= tolerance
    middle = slice(2000, 14000)
    assert np.corrcoef(samples[middle], tone(SAMPLING_RATE)[middle])[0, 1] > 0.99
    assert audio_duration_seconds(tmp_path / name) == 1.0


def test_integers_are_scaled_to_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([-32768, 0, 16384], dtype=np.int16), SAMPLING_RATE)
    assert load_audio(tmp_path / "a.wav").tolist() == [-1.0, 0.0, 0.5]


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(44100), np.zeros(44100, dtype=np.float32)
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1), 44100)
    soundfile.write(tmp_path / "half.flac", left / 2, 44100)
    samples = load_audio(tmp_path / "a.flac")
    assert samples.ndim == 1
    np.testing.assert_allclose(samples, load_audio(tmp_path / "half.flac"), atol=1e-4)


def test_other_target_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    assert len(load_audio(tmp_path / "a.wav", sampling_rate=8000)) == 8000


@given(st.integers(1, 500), st.sampled_from([8000, 22050, 44100, 48000]))
def test_resampling_keeps_the_duration_and_a_constant(length: int, to_hz: int) -> None:
    resampled = resample(np.ones(length, dtype=np.float32), 16000, to_hz)
    assert abs(len(resampled) - length * to_hz / 16000) <= 1
    assert np.abs(resampled).max(initial=0.0) < 1.5


@pytest.mark.parametrize("num_samples", [1, 160])
def test_very_short_and_silent_files_are_read(tmp_path: Path, num_samples: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(num_samples), SAMPLING_RATE)
    assert load_audio(tmp_path / "a.wav").tolist() == [0.0] * num_samples


@pytest.mark.parametrize("name", ENCODINGS)
def test_text_with_an_audio_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no audio\n" * 100)
    expected = "there is no audio in it" if name == "a.flac" else "not a readable audio file"
    assert_one_line_error(tmp_path / name, expected)


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.opus"])
def test_corrupt_header(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone(16000), 16000, **ENCODINGS[name])
    (tmp_path / name).write_bytes(bytes(32) + (tmp_path / name).read_bytes()[32:])
    assert_one_line_error(tmp_path / name, "not a readable audio file")


def test_header_that_promises_far_too_much(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(16000), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # the top bits of STREAMINFO's number of samples: 64 billion
    (tmp_path / "a.flac").write_bytes(content)
    assert_one_line_error(tmp_path / "a.flac", "damaged or cut after 1.0 s")
    assert len(read_audio(tmp_path / "a.flac").samples) == 16000
    assert audio_duration_seconds(tmp_path / "a.flac") == 1.0


MEDIA = {
    "a.m4a": ("aac", 16000, {}),
    "a.mp4": ("aac", 44100, {"with_picture": True}),
    "a.avi": ("libmp3lame", 16000, {"with_picture": True}),
    "a.mov": ("pcm_s16le", 16000, {}),
    "a.webm": ("libopus", 48000, {}),
    "a.mkv": ("flac", 16000, {}),
    "a.aac": ("aac", 16000, {}),
    "a.wma": ("wmav2", 16000, {}),
    "a.amr": ("libopencore_amrnb", 8000, {}),
    "a.aiff": ("pcm_s16be", 16000, {}),
    "a.au": ("pcm_s16be", 16000, {}),
    "a.caf": ("pcm_s16be", 16000, {}),
    "a.w64": ("pcm_s16le", 16000, {}),
    "a.ac3": ("ac3", 48000, {}),
    "a.ts": ("aac", 16000, {}),
    "a.mp2": ("mp2", 16000, {}),
    "vbr.mp3": ("libmp3lame", 16000, {"options": {"write_xing": "0"}}),
}


@pytest.mark.parametrize("name", MEDIA)
def test_whatever_ffmpeg_decodes_is_read(tmp_path: Path, write_media, name: str) -> None:
    codec, sampling_rate, how = MEDIA[name]
    write_media(tmp_path / name, tone(sampling_rate, 2.0), sampling_rate, codec, **how)
    result = read_audio(tmp_path / name)
    assert result.warnings == ()
    assert 32000 - 513 <= len(result.samples) < 32000 + 2 * 1152
    spectrum = np.abs(np.fft.rfft(result.samples[8000:24000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    np.testing.assert_array_equal(load_audio(tmp_path / name), result.samples)
    assert audio_duration_seconds(tmp_path / name) == pytest.approx(len(result.samples) / 16000, abs=0.065)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.opus", "stereo_44khz.wav"])
def test_the_whole_is_the_blocks_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rate = 44100 if "44khz" in name else 48000
    noise = np.random.default_rng(0).normal(scale=0.1, size=(3 * rate, 2 if "stereo" in name else 1))
    soundfile.write(tmp_path / name, noise, rate, **ENCODINGS.get(name, {}))
    whole = load_audio(tmp_path / name)
    assert len(whole) == 48000
    monkeypatch.setattr(audio, "_BLOCK_SECONDS", 0.25)
    blocks = list(AudioReader(tmp_path / name))
    assert len(blocks) >= 10
    assert max(map(len, blocks)) < 8000
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_a_block_of_many_channels_at_a_high_rate_is_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((1_310_700, 8), dtype=np.int16), 655350)
    num_samples = [len(block) for block in AudioReader(tmp_path / "a.flac")]
    assert abs(sum(num_samples) - 32000) < 20
    assert max(num_samples) < 16000


def test_a_long_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK_SECONDS", 1)
    soundfile.write(tmp_path / "a.flac", tone(8000, 600.0), 8000)
    tracemalloc.start()
    num_samples = sum(map(len, AudioReader(tmp_path / "a.flac")))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_samples == 600 * 16000
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_an_unfinished_wav_header_is_no_damage(tmp_path: Path, size: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(load_audio(tmp_path / "a.wav")) == 16000
    assert audio_duration_seconds(tmp_path / "a.wav") == 1.0


CUT = ["a.flac", "a.wav", "a.mp3", "a.ogg", "a.opus", "a.aiff", "a.au", "a.caf", "a.w64", "a.aac", "a.wma", "a.webm"]
CUT += ["a.mkv", "fast.m4a", "vbr.mp3", "float.wav", "a.avi", "adpcm.wav"]
CUT_MEDIA = MEDIA | {
    "fast.m4a": ("aac", 16000, {"options": {"movflags": "faststart"}}),
    "float.wav": ("pcm_f32le", 16000, {}),
    "adpcm.wav": ("adpcm_ms", 16000, {}),
}


@pytest.mark.parametrize("name", CUT)
def test_of_a_cut_file_the_first_part_is_there_with_one_warning(tmp_path: Path, write_media, name: str) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=160000).clip(-1, 1)
    if name in CUT_MEDIA:
        codec, sampling_rate, how = CUT_MEDIA[name]
        write_media(tmp_path / name, resample(noise, 16000, sampling_rate), sampling_rate, codec, **how)
    else:
        soundfile.write(tmp_path / name, noise, 16000, **ENCODINGS[name])
    assert read_audio(tmp_path / name).warnings == ()
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    cut = read_audio(tmp_path / name)
    seconds = len(cut.samples) / 16000
    assert 4.0 < seconds < 6.6
    (warning,) = cut.warnings
    broke_off = re.fullmatch(
        re.escape(f"{tmp_path / name}: ") + r"damaged or cut after (.*) s; the rest is missing", warning
    )
    assert broke_off is not None
    assert float(broke_off[1]) == pytest.approx(seconds, abs=0.06)
    assert_one_line_error(tmp_path / name, f"damaged or cut after {broke_off[1]} s; copy it again")


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_damage_in_the_middle_leaves_the_rest(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=160000)
    soundfile.write(tmp_path / name, noise, 16000, **ENCODINGS[name])
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    (tmp_path / name).write_bytes(content)
    damaged = read_audio(tmp_path / name)
    assert 16000 * 8 < len(damaged.samples) < 160000
    (warning,) = damaged.warnings
    position = re.search(r"damaged after (.*) s; some of the rest is missing", warning)
    assert position is not None
    assert float(position[1]) == pytest.approx(5.0, abs=0.4)


@pytest.mark.parametrize(
    "tag", [b"TAG" + bytes(125), b"LYRICSBEGIN" + b"words " * 50 + b"000300LYRICS200", b"\0" * 999]
)
def test_what_follows_the_audio_is_no_damage(tmp_path: Path, write_media, tag: bytes) -> None:
    write_media(tmp_path / "a.mp3", tone(16000, 2.0), 16000, "libmp3lame")
    expected = load_audio(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes((tmp_path / "a.mp3").read_bytes() + tag)
    result = read_audio(tmp_path / "a.mp3")
    assert result.warnings == ()
    assert abs(len(result.samples) - len(expected)) < 1152


def test_joined_files_are_read_to_the_end_though_they_differ(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", tone(16000, 2.0), 16000, subtype="VORBIS")
    stereo = np.stack([tone(44100, 1.0, 880.0)] * 2, axis=1)
    soundfile.write(tmp_path / "b.ogg", stereo, 44100, subtype="VORBIS")
    soundfile.write(tmp_path / "c.ogg", tone(48000, 1.0), 48000, format="OGG", subtype="OPUS")
    joined = b"".join((tmp_path / name).read_bytes() for name in ("a.ogg", "b.ogg", "c.ogg"))
    (tmp_path / "joined.ogg").write_bytes(joined)
    result = read_audio(tmp_path / "joined.ogg")
    assert result.warnings == ()
    assert len(result.samples) == pytest.approx(64000, abs=400)
    assert np.abs(np.fft.rfft(result.samples[34000:46000])).argmax() * 16000 / 12000 == pytest.approx(880, abs=2)
    assert audio_duration_seconds(tmp_path / "joined.ogg") == pytest.approx(4.0, abs=1e-3)


def test_a_pipe_is_read_though_its_format_needs_seeking(tmp_path: Path, write_media) -> None:
    write_media(tmp_path / "a.m4a", tone(16000), 16000, "aac")
    content = (tmp_path / "a.m4a").read_bytes()
    assert content.find(b"moov") > content.find(b"mdat")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content])
    writer.start()
    samples = load_audio(tmp_path / "pipe")
    writer.join()
    np.testing.assert_array_equal(samples, load_audio(tmp_path / "a.m4a"))


@pytest.mark.parametrize("rate_hz", [1, 0x7FFFFFFF])
def test_an_absurd_sampling_rate_is_one_line(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = rate_hz.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert_one_line_error(tmp_path / "a.wav", f"a sampling rate of {rate_hz} Hz")


def test_a_video_without_sound_is_one_line(tmp_path: Path, write_media) -> None:
    write_media(tmp_path / "a.mp4", np.zeros(0), 16000, "aac", with_picture=True)
    assert_one_line_error(tmp_path / "a.mp4", "there is no audio in it")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", tone(16000), 16000)
    (tmp_path / "a.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path / 'secret.wav'}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile 'secret.wav'\n")
    assert_one_line_error(tmp_path / "a.m3u8", "not a readable audio file")
    assert_one_line_error(tmp_path / "a.ffconcat", "not a readable audio file")


def test_names_and_tags_need_not_be_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9.wav"))
    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    content = (tmp_path / "a.wav").read_bytes()
    path.write_bytes(content[:36] + b"LIST\x10\0\0\0INFOIART\4\0\0\0\xe9\xe8\xff\0" + content[36:])
    assert len(load_audio(path)) == 16000
    path.write_bytes(content[:-8000])
    assert read_audio(path).warnings[0].startswith(f"{path}: damaged or cut")


def test_one_channel_can_be_chosen_and_a_single_one_is_every_channel(tmp_path: Path) -> None:
    stereo = np.stack([tone(16000, 1.0, 300.0), tone(16000, 1.0, 2000.0)], axis=1)
    soundfile.write(tmp_path / "call.wav", stereo, 16000)
    soundfile.write(tmp_path / "mono.wav", stereo[:, 1], 16000)
    assert (count_channels(tmp_path / "call.wav"), count_channels(tmp_path / "mono.wav")) == (2, 1)
    for channel in (0, 1):
        chosen = read_audio(tmp_path / "call.wav", channel=channel).samples
        np.testing.assert_allclose(chosen, stereo[:, channel], atol=1e-4)
        np.testing.assert_allclose(read_audio(tmp_path / "mono.wav", channel=channel).samples, stereo[:, 1], atol=1e-4)


@pytest.mark.parametrize(("right_gain", "has_warning"), [(-0.99, True), (-1.0, True), (-0.3, False), (0.0, False)])
def test_channels_that_nearly_cancel_are_told(tmp_path: Path, right_gain: float, has_warning: bool) -> None:
    left = tone(16000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right_gain * left], axis=1), 16000, subtype="FLOAT")
    warnings = read_audio(tmp_path / "a.wav").warnings
    assert len(warnings) == has_warning
    if has_warning:
        assert warnings[0].startswith(f"{tmp_path / 'a.wav'}: its channels nearly cancel")
        assert "--channels" in warnings[0]
    assert read_audio(tmp_path / "a.wav", channel=0).warnings == ()


def test_digital_silence_on_both_channels_is_harmless(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((16000, 2)), 16000)
    result = read_audio(tmp_path / "a.wav")
    assert not result.samples.any() and result.warnings == ()


def test_content_tells_audio_whatever_the_name(tmp_path: Path, write_media) -> None:
    write_media(tmp_path / "a.m4a", tone(16000), 16000, "aac")
    write_media(tmp_path / "a.mp3", tone(16000), 16000, "libmp3lame")
    write_media(tmp_path / "silent.mp4", np.zeros(0), 16000, "aac", with_picture=True)
    for name in ("a.m4a", "a.mp3"):
        shutil.copy(tmp_path / name, tmp_path / "file")
        assert has_audio(tmp_path / "file")
    (tmp_path / "random.mp3").write_bytes(np.random.default_rng(0).bytes(100_000))
    (tmp_path / "notes.mp3").write_text("this is text\n" * 1000)
    for name in ("silent.mp4", "random.mp3", "notes.mp3", "missing"):
        assert not has_audio(tmp_path / name)


def test_the_libraries_are_quiet(tmp_path: Path, write_media) -> None:
    write_media(tmp_path / "a.mp3", tone(16000, 2.0), 16000, "libmp3lame")
    write_media(tmp_path / "a.aac", tone(16000, 2.0), 16000, "aac")
    for name in ("a.mp3", "a.aac"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + content[: len(content) // 2])
    script = "import sys; from lact_asr_model.audio import read_audio; [read_audio(path) for path in sys.argv[1:]]"
    command = [sys.executable, "-c", script, str(tmp_path / "a.mp3"), str(tmp_path / "a.aac")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == result.stdout == ""


@pytest.mark.parametrize("bad_value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, bad_value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, bad_value, 0.1], dtype=np.float32), 16000, subtype="FLOAT")
    assert_one_line_error(tmp_path / "a.wav", "NaN or infinite")


@pytest.mark.filterwarnings("error")
def test_infinities_that_cancel_are_refused_without_a_warning_of_numpy(tmp_path: Path) -> None:
    samples = np.stack([tone(16000), tone(16000)], axis=1)
    samples[100] = [np.inf, -np.inf]
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert_one_line_error(tmp_path / "a.wav", "NaN or infinite")


def test_running_out_of_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    soundfile.write(tmp_path / "a.wav", tone(16000), 16000)
    monkeypatch.setattr(audio, "_drain", fail)
    assert_one_line_error(tmp_path / "a.wav", "too long for the memory")
    with pytest.raises(UserError, match="too long for the memory"):
        list(AudioReader(tmp_path / "a.wav"))


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "zero_bytes.wav").touch()
    soundfile.write(tmp_path / "no_samples.wav", np.zeros(0), SAMPLING_RATE)
    assert_one_line_error(tmp_path / "zero_bytes.wav", "the file is empty")
    assert_one_line_error(tmp_path / "no_samples.wav", "no samples")
    assert_one_line_error(tmp_path / "missing.wav", "no such file")
    assert_one_line_error(tmp_path, "it is a folder")
    assert_one_line_error(tmp_path / ("long" * 100), "check the path")
    assert_one_line_error(Path("nul\0"), "check the path")
    soundfile.write(tmp_path / "headerless.raw", tone(16000), 16000, format="RAW", subtype="PCM_16")
    assert_one_line_error(tmp_path / "headerless.raw", "there is no audio in it")
