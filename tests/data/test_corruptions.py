"""Corruptions: measured levels, alignment, determinism, silence."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given
from hypothesis import strategies as st

from lact_asr_model.data import corruptions
from lact_asr_model.data import recordings as recordings_module
from lact_asr_model.data.augmentation import TrainingAugmentation
from lact_asr_model.data.conditions import Condition, parse_condition, parse_conditions
from lact_asr_model.data.recordings import Recordings
from lact_asr_model.errors import UserError

NAMES = ["clean", "gaussian:0.01", "noise:5", "babble:5", "room", "telephone", "mu_law", "gsm", "opus", "mp3", "clip"]
CODECS = [corruptions.encode_mu_law, corruptions.encode_gsm, corruptions.encode_opus, corruptions.encode_mp3]
seeds = st.integers(0, 1000)


def make_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def speech_like(num_samples: int, seed: int = 0) -> np.ndarray:
    """Low-pass noise in syllables with pauses between them; the loudest sample is 0.5."""
    noise = make_rng(seed).standard_normal(num_samples + 15)
    syllables = np.clip(np.sin(2 * np.pi * 3 * np.arange(num_samples) / 16000 + 1), 0, None)
    speech = np.convolve(noise, np.hanning(16), mode="valid") * syllables
    return (0.5 * speech / np.abs(speech).max()).astype(np.float32)


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def delay_samples(before: np.ndarray, after: np.ndarray) -> int:
    """Where the cross-correlation of two arrays [samples] is highest."""
    fft_size = 2 * len(before)
    correlation = np.fft.irfft(np.fft.rfft(after, fft_size) * np.fft.rfft(before, fft_size).conj())
    peak = int(np.argmax(correlation))
    return peak if peak < len(before) else peak - fft_size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("recordings")
    for name, make in {
        "noise": lambda seed: 0.1 * make_rng(seed).standard_normal(4000),
        "rooms": lambda seed: corruptions.synthetic_impulse_response(make_rng(seed)),
        "voices": lambda seed: speech_like(20000, seed),
    }.items():
        (root / name).mkdir()
        for seed in range(3):
            soundfile.write(root / name / f"{seed}.flac", make(seed), 16000)
    return {folder.name: folder for folder in root.iterdir()}


def parse(text: str, folders: dict[str, Path]) -> Condition:
    return parse_condition(text, folders["noise"], folders["rooms"], [folders["voices"]])


@given(
    seeds,
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.floats(-5, 30),
    st.floats(0.001, 1.0),
    st.floats(0.001, 1.0),
)
def test_noise_has_the_requested_power_ratio(seed, speech_length, noise_length, snr_db, speech_scale, noise_scale):
    speech = speech_like(speech_length, seed) * np.float32(speech_scale)
    assume(np.abs(speech).max() > 1e-4)
    noise = make_rng(seed + 1).standard_normal(noise_length, dtype=np.float32) * np.float32(noise_scale)
    noisy = corruptions.add_noise_at_snr(speech, make_rng(seed), noise, snr_db)
    assert noisy.dtype == np.float32 and len(noisy) == speech_length
    added = noisy.astype(np.float64) - speech
    assert decibels(corruptions.active_power(speech) / power(added)) == pytest.approx(snr_db, abs=0.05)


def test_pauses_do_not_count_as_speech_and_a_factor_of_two_in_amplitude_is_six_decibels() -> None:
    speech, noise = speech_like(16000), make_rng().standard_normal(16000, dtype=np.float32)
    padded = np.concatenate([np.zeros(16000, dtype=np.float32), speech])
    assert corruptions.active_power(padded) == pytest.approx(corruptions.active_power(speech))
    assert decibels(corruptions.active_power(2 * speech) / corruptions.active_power(speech)) == pytest.approx(
        6.02, abs=0.01
    )
    at_0_db, at_20_db = (corruptions.add_noise_at_snr(speech, make_rng(), noise, snr_db) - speech for snr_db in (0, 20))
    assert np.linalg.norm(at_0_db) / np.linalg.norm(at_20_db) == pytest.approx(10, rel=1e-3)


def test_active_frames_are_those_within_40_db_of_the_loudest() -> None:
    levels_db = [0.0, -39.0, -41.0, -np.inf, -20.0]
    samples = np.concatenate([np.full(320, 10 ** (level / 20)) for level in levels_db]).astype(np.float32)
    active = corruptions.active_samples_mask(samples[:-100])
    assert active[::320].tolist() == [True, True, False, False, True]
    assert len(active) == len(samples) - 100
    short_last_frame = np.concatenate([np.full(320, 1.0), np.full(80, 0.5)]).astype(np.float32)
    assert corruptions.active_power(short_last_frame) == pytest.approx(power(short_last_frame))


def test_noise_is_looped_from_a_random_offset_without_its_silence() -> None:
    speech = np.ones(1600, dtype=np.float32)
    noise = np.concatenate([np.zeros(3200), np.arange(1, 641)]).astype(np.float32)
    starts = set()
    for seed in range(5):
        added = corruptions.add_noise_at_snr(speech, make_rng(seed), noise, 20.0) - speech
        looped = np.rint(added / (added.max() / 640))
        assert set(np.diff(looped)) <= {1.0, -639.0}
        starts.add(looped[0])
    assert len(starts) > 1


def test_babble_is_voices_of_equal_level_at_the_requested_ratio() -> None:
    speech, time_seconds = speech_like(16000), np.arange(16000) / 16000
    pitches_hz, loudness = [300, 500, 700], [1.0, 0.1, 0.001]
    voices = [
        (level * np.sin(2 * np.pi * pitch_hz * time_seconds)).astype(np.float32)
        for pitch_hz, level in zip(pitches_hz, loudness, strict=True)
    ]
    babble = corruptions.add_babble(speech, make_rng(), voices, snr_db=5.0).astype(np.float64) - speech
    assert decibels(corruptions.active_power(speech) / power(babble)) == pytest.approx(5.0, abs=0.05)
    amplitudes = np.abs(np.fft.rfft(babble))[pitches_hz]
    np.testing.assert_allclose(amplitudes / amplitudes[0], 1.0, rtol=0.01)


def test_gaussian_noise_has_its_sigma() -> None:
    noisy = corruptions.add_gaussian(np.full(40000, 0.5, dtype=np.float32), make_rng(), sigma=0.02)
    assert noisy.std() == pytest.approx(0.02, rel=0.02)
    assert noisy.mean() == pytest.approx(0.5, abs=0.001)


def test_room_is_a_convolution_with_the_strongest_path_in_time() -> None:
    speech = speech_like(4000)
    impulse_response = np.array([0.1, 0.0, -1.0, 0.5, 0.0, 0.25], dtype=np.float32)
    wet = corruptions.reverberate(speech, make_rng(), impulse_response)
    expected = np.convolve(speech, impulse_response)[2:4002]
    np.testing.assert_allclose(wet / np.linalg.norm(wet), expected / np.linalg.norm(expected), atol=1e-5)
    assert corruptions.active_power(wet) == pytest.approx(corruptions.active_power(speech), rel=1e-4)


@given(seeds)
def test_synthetic_room_decays_by_60_db(seed: int) -> None:
    impulse_response = corruptions.synthetic_impulse_response(make_rng(seed), (0.5, 0.5), (3.0, 3.0))
    assert len(impulse_response) == 8000
    tail = impulse_response[1:]
    assert decibels(1 / np.sum(tail**2)) == pytest.approx(3.0, abs=0.1)
    assert decibels(power(tail[:800]) / power(tail[-800:])) == pytest.approx(60 * 0.9, abs=2)


@pytest.mark.parametrize(("frequency_hz", "loss_db"), [(100, 60), (1000, 0), (2500, 0), (5000, 40)])
def test_telephone_band(frequency_hz: int, loss_db: float) -> None:
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(16000) / 16000).astype(np.float32)
    middle = corruptions.telephone_band(tone, make_rng())[4000:12000]
    measured_db = decibels(power(tone) / power(middle))
    assert measured_db == pytest.approx(0, abs=0.1) if loss_db == 0 else measured_db > loss_db


@pytest.mark.parametrize("corrupt", [*CODECS, corruptions.telephone_band])
@pytest.mark.parametrize("num_samples", [16000, 15999, 24001])
def test_codecs_keep_length_and_alignment_and_do_change_the_sound(corrupt, num_samples: int) -> None:
    speech = speech_like(num_samples)
    coded = corrupt(speech, make_rng())
    assert coded.dtype == np.float32 and len(coded) == num_samples
    assert delay_samples(speech, coded) == 0
    assert 0.6 < np.corrcoef(speech, coded)[0, 1] < 0.99999


@pytest.mark.parametrize("encode", CODECS)
def test_codecs_clip_what_is_louder_than_full_scale(encode) -> None:
    loud = 3 * speech_like(16000)
    assert np.corrcoef(np.clip(loud, -1, 1), encode(loud, make_rng()))[0, 1] > 0.6


def test_clipping_cuts_at_a_share_of_the_peak() -> None:
    speech = speech_like(4000)
    clipped = corruptions.clip(speech, make_rng(), share_of_peak=0.1)
    assert np.abs(clipped).max() == pytest.approx(0.05)
    quiet = np.abs(speech) < 0.05
    np.testing.assert_array_equal(clipped[quiet], speech[quiet])


def test_gain_is_in_decibels() -> None:
    assert corruptions.gain(np.ones(2, dtype=np.float32), make_rng(), gain_db=-20).tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_duration_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(16000) / 16000).astype(np.float32)
    faster = corruptions.change_speed(tone, make_rng(), factor)
    assert len(faster) == pytest.approx(16000 / factor, abs=1)
    peak_hz = np.argmax(np.abs(np.fft.rfft(faster))) * 16000 / len(faster)
    assert peak_hz == pytest.approx(400 * factor, abs=2)


def vowel(pitch_hz: int, resonance_hz: int, num_samples: int = 16000) -> np.ndarray:
    """A voice with one resonance: equal harmonics of `pitch_hz` through a peak 200 Hz wide."""
    time = np.arange(num_samples) / 16000
    harmonics_hz = np.arange(pitch_hz, 8000, pitch_hz)
    levels = 1 / np.sqrt(1 + ((harmonics_hz - resonance_hz) / 200) ** 2)
    return (0.02 * levels @ np.cos(2 * np.pi * harmonics_hz[:, None] * time)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.18])
def test_warping_moves_resonances_but_not_pitch(factor: float) -> None:
    before = vowel(pitch_hz=125, resonance_hz=2000)
    after = corruptions.warp_formants(before, make_rng(), factor)
    assert len(after) == len(before)
    assert after.dtype == np.float32
    powers = np.abs(np.fft.rfft(after * np.hanning(16000))) ** 2  # one bin is 1 Hz
    assert np.argmax(powers) == pytest.approx(2000 * factor, abs=125)
    near_harmonics = np.abs(np.arange(8001) % 125 - 62.5) > 52.5
    assert powers[near_harmonics].sum() > 0.99 * powers.sum()


def test_warping_by_one_changes_nothing() -> None:
    speech = speech_like(5000)
    np.testing.assert_allclose(corruptions.warp_formants(speech, make_rng(), 1.0), speech, atol=1e-6)


def test_equalizer_has_the_gains_it_drew() -> None:
    click = np.zeros(16000, dtype=np.float32)
    click[8000] = 1.0
    response = np.abs(np.fft.rfft(corruptions.equalize(click, make_rng(3), std_db=4.0)))  # one bin is 1 Hz
    gains_db = make_rng(3).normal(0.0, 4.0, len(corruptions.EQUALIZER_HZ))
    np.testing.assert_allclose(20 * np.log10(response[list(corruptions.EQUALIZER_HZ)]), gains_db, atol=0.1)
    between_db = 20 * np.log10(response[2500])
    assert between_db == pytest.approx((gains_db[4] + gains_db[5]) / 2, abs=0.1)


@pytest.mark.parametrize("num_samples", [0, 1, 7, 160, 5000])
@pytest.mark.parametrize(
    "change",
    [lambda x: corruptions.warp_formants(x, make_rng(), 1.1), lambda x: corruptions.equalize(x, make_rng(), 4.0)],
)
def test_voice_and_microphone_keep_length_input_and_silence(change, num_samples: int) -> None:
    for samples in (speech_like(5000)[:num_samples], np.zeros(num_samples, dtype=np.float32)):
        original = samples.copy()
        changed = change(samples)
        np.testing.assert_array_equal(samples, original)
        assert changed.shape == samples.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert samples.any() or not changed.any()


@pytest.mark.parametrize("name", [*NAMES, "gain:-20", "room:1"])
@pytest.mark.parametrize("num_samples", [0, 1, 7, 160, 5000])
def test_every_condition_keeps_length_input_and_silence(name: str, num_samples: int, folders) -> None:
    condition = parse(name, folders)
    assert condition.name == name
    speech = speech_like(5000)[:num_samples]
    before = speech.copy()
    corrupted = condition(speech, make_rng())
    np.testing.assert_array_equal(speech, before)
    assert corrupted.shape == (num_samples,) and corrupted.dtype == np.float32
    assert np.isfinite(corrupted).all()
    np.testing.assert_array_equal(corrupted, condition(speech, make_rng()))
    silent = condition(np.zeros(num_samples, dtype=np.float32), make_rng())
    assert np.isfinite(silent).all()
    assert np.abs(silent).max(initial=0.0) < 0.1


@pytest.mark.parametrize("name", ["gaussian:0.01", "noise:5", "babble:5", "room"])
def test_random_conditions_follow_their_generator(name: str, folders) -> None:
    condition, speech = parse(name, folders), speech_like(3000)
    assert not np.array_equal(condition(speech, make_rng(0)), condition(speech, make_rng(1)))


def test_conditions_name_their_parameters(folders) -> None:
    speech = speech_like(8000)
    assert parse("clean", folders)(speech, make_rng()) is speech
    loud = parse("gain:6", folders)(speech, make_rng())
    assert decibels(power(loud) / power(speech)) == pytest.approx(6, abs=0.01)
    noise = parse("noise:5", folders)(speech, make_rng()).astype(np.float64) - speech
    assert decibels(corruptions.active_power(speech) / power(noise)) == pytest.approx(5, abs=0.05)
    dry_room = parse_condition("room")(speech, make_rng())
    assert not np.array_equal(dry_room, speech)


def test_a_room_of_its_own_is_always_the_same(folders) -> None:
    speech, (impulse_response, _) = speech_like(3000), soundfile.read(folders["rooms"] / "1.flac", dtype="float32")
    room = parse("room:1", folders)
    np.testing.assert_array_equal(room(speech, make_rng(0)), room(speech, make_rng(1)))
    np.testing.assert_array_equal(
        room(speech, make_rng()), corruptions.reverberate(speech, make_rng(), impulse_response=impulse_response)
    )


def test_noise_of_a_kind_is_drawn_from_its_folder(tmp_path: Path) -> None:
    pitches_hz = {"hum": 300, "beep": 2000}
    for kind, pitch_hz in pitches_hz.items():
        (tmp_path / kind).mkdir()
        tone = 0.1 * np.sin(2 * np.pi * pitch_hz * np.arange(16000) / 16000)
        soundfile.write(tmp_path / kind / "tone.wav", tone, 16000)

    def heard_hz(text: str) -> set[int]:
        condition, speech = parse_condition(text, noise_dir=tmp_path), speech_like(16000)
        noises = [condition(speech, make_rng(seed)) - speech for seed in range(12)]
        return {round(np.argmax(np.abs(np.fft.rfft(noise))).item(), -2) for noise in noises}

    assert heard_hz("noise:5:hum") == {300}
    assert heard_hz("noise:5:beep") == {2000}
    assert heard_hz("noise:5") == {300, 2000}


def test_a_list_of_conditions_keeps_its_order_and_each_once(folders) -> None:
    conditions = parse_conditions("noise:5, clean,rooms,clean,room:1", folders["noise"], folders["rooms"])
    assert [condition.name for condition in conditions] == ["noise:5", "clean", "room:0", "room:1", "room:2"]


def test_rooms_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a/rir.wav", "b/rir.wav", "hall.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.ones(8), 16000)
    names = [condition.name for condition in parse_conditions("rooms", impulse_response_dir=tmp_path)]
    assert sorted(names) == ["room:a/rir.wav", "room:b/rir.wav", "room:hall"]


def test_the_protocol_is_the_whole_list(folders) -> None:
    conditions = parse_conditions("protocol", folders["noise"], folders["rooms"], [folders["voices"]])
    assert " ".join(condition.name for condition in conditions) == (
        "clean gaussian:0.005 gaussian:0.01 gaussian:0.015 gaussian:0.02 noise:20 noise:10 noise:5 noise:0 babble:10 "
        "room:0 room:1 room:2 telephone mu_law gsm opus mp3 clip gain:-20"
    )
    with pytest.raises(UserError, match="condition 'rooms': .* give --impulse_response_dir"):
        parse_conditions("protocol", folders["noise"], None, [folders["voices"]])


def test_what_is_not_in_a_folder_is_named(folders) -> None:
    with pytest.raises(UserError, match="condition 'room:hall': no such room; choose from 0, 1, 2"):
        parse("room:hall", folders)
    with pytest.raises(UserError, match="hail: no such audio file"):
        parse("noise:5:hail", folders)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "unknown; choose one of: clean, gaussian:SIGMA"),
        ("hail", "unknown"),
        ("clean:3", "unknown"),
        ("gaussian", "needs a number"),
        ("gaussian:loud", "needs a number"),
        ("gain:inf", "not a finite number"),
        ("gaussian:-1", "below 0"),
        ("noise:5", "give --noise_dir"),
        ("noise:loud:rain", "needs a number"),
        ("room:hall", "give --impulse_response_dir"),
        ("rooms", "unknown; .* or a group: rooms, protocol"),
        ("babble:5", "give --babble_dir"),
    ],
)
def test_bad_conditions(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        parse_condition(text)


def test_recordings_are_decoded_once_and_travel_to_workers(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, rng = Recordings([folders["noise"]]), make_rng()
    clips = [recordings.draw(rng) for _ in range(30)]
    assert len({id(clip) for clip in clips}) == 3
    copy = pickle.loads(pickle.dumps(recordings))
    np.testing.assert_array_equal(copy.draw(make_rng(1)), recordings.draw(make_rng(1)))
    monkeypatch.setattr(recordings_module, "MAX_CACHED_SAMPLES", 4000)
    bounded = Recordings([folders["noise"]])
    assert len({id(clip) for clip in [bounded.draw(rng) for _ in range(30)]}) > 3


def test_augmentation_is_repeatable_and_varied(folders) -> None:
    augment = TrainingAugmentation(folders["noise"], folders["rooms"])
    speech = speech_like(8000)
    variants = [augment(speech, make_rng(seed)) for seed in range(12)]
    for seed, variant in enumerate(variants):
        np.testing.assert_array_equal(augment(speech, make_rng(seed)), variant)
        assert variant.dtype == np.float32
        assert 8000 / 1.18 - 1 <= len(variant) <= 8000 / 0.85 + 1
    assert len({len(variant) for variant in variants}) > 8


def test_augmentation_parts_can_be_chosen(folders) -> None:
    speech = speech_like(8000)
    kinds = ("formant", "room", "noise", "equalizer", "gaussian")
    parts = [f"{kind}_probability" for kind in kinds]
    nothing = {"speed_range": (1, 1), "gain_db_range": (0, 0), **dict.fromkeys(parts, 0)}
    np.testing.assert_array_equal(TrainingAugmentation(folders["noise"], **nothing)(speech, make_rng()), speech)
    for part in parts:
        changed = TrainingAugmentation(folders["noise"], **(nothing | {part: 1}))(speech, make_rng())
        assert len(changed) == 8000
        assert not np.array_equal(changed, speech)
    noisy = TrainingAugmentation(
        folders["noise"], **(nothing | {"noise_probability": 1, "noise_snr_db_range": (10, 10)})
    )(speech, make_rng())
    assert decibels(corruptions.active_power(speech) / power(noisy - speech)) == pytest.approx(10, abs=0.05)


def test_augmentation_with_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio files"):
        TrainingAugmentation(noise_dir=tmp_path)
