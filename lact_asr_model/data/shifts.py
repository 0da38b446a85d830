"""Corruptions of speech: training augmentation and the conditions of evaluation share them.

Every corruption is `f(samples, rng, ...) -> samples`: float32 [samples] at 16 kHz in and out, of the same length and
alignment (`change_speed` alone changes the length); the input is never written to. Silence stays finite.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lact_asr_model.audio import SAMPLING_RATE, load_audio, resample
from lact_asr_model.audio_search import find_audio_files
from lact_asr_model.errors import UserError

ACTIVITY_FRAME_SAMPLES = SAMPLING_RATE // 50  # 20 ms
ACTIVITY_RANGE_DB = 40.0
TELEPHONE_BAND_HZ = (300.0, 3400.0)
TELEPHONE_RATE_HZ = 8000
NUM_BABBLE_VOICES = 4
WARP_FRAME_SAMPLES = 512
WARP_HOP_SAMPLES = 128
WARP_ENVELOPE_CEPSTRA = 32  # up to 2 ms, shorter than the period of any voice
EQUALIZER_HZ = (0, 250, 500, 1000, 2000, 3000, 4000, 6000, 8000)
MAX_CACHED_SAMPLES = 64_000_000  # 256 MB of float32 for each collection of recordings


def add_gaussian(samples: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """White noise of standard deviation `sigma`, on the scale where full scale is 1."""
    return samples + np.float32(sigma) * rng.standard_normal(len(samples), dtype=np.float32)


def add_noise_at_snr(samples: np.ndarray, rng: np.random.Generator, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise` [any length], without its silences, looped or cropped at a random offset.

    `snr_db` is 10 log10 of the speech's mean power over its active frames (20 ms, within 40 dB of the loudest frame)
    to the mean power of the noise that is added. Silent speech or noise leaves the samples as they are.
    """
    active_noise = noise[active_samples_mask(noise)]
    if len(active_noise) == 0 or len(samples) == 0:
        return samples
    offset = int(rng.integers(len(active_noise)))
    added = np.resize(np.roll(active_noise, -offset), len(samples))
    noise_power = float(np.mean(np.square(added, dtype=np.float64)))
    speech_power = active_power(samples)
    if speech_power == 0.0 or noise_power == 0.0:
        return samples
    return samples + np.float32(np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20)) * added


def add_babble(
    samples: np.ndarray, rng: np.random.Generator, voices: Sequence[np.ndarray], snr_db: float
) -> np.ndarray:
    """Several voices at equal active level, each at a random offset, together at `snr_db` below the speech."""
    babble = np.zeros(max(map(len, voices), default=0), dtype=np.float32)
    for voice in voices:
        power = active_power(voice)
        if power > 0.0:
            rolled = np.roll(voice, int(rng.integers(len(voice))))
            babble += np.resize(rolled, len(babble)) / np.float32(np.sqrt(power))
    return add_noise_at_snr(samples, rng, babble, snr_db)


def reverberate(samples: np.ndarray, rng: np.random.Generator, impulse_response: np.ndarray) -> np.ndarray:
    """Convolve with a room's impulse response; its strongest path stays in time, and the active level is kept."""
    direct_path = int(np.argmax(np.abs(impulse_response)))
    wet = _convolve(samples, impulse_response)[direct_path : direct_path + len(samples)]
    power = active_power(wet)
    return wet * np.float32(np.sqrt(active_power(samples) / power)) if power > 0.0 else samples


def synthetic_impulse_response(
    rng: np.random.Generator,
    reverberation_seconds_range: tuple[float, float] = (0.2, 0.9),
    direct_to_reverberant_db_range: tuple[float, float] = (-3.0, 9.0),
) -> np.ndarray:
    """A room as a direct path and exponentially decaying noise, 60 dB down after the reverberation time (Polack 1988).

    Returns float32 [samples] at 16 kHz.
    """
    reverberation_seconds = rng.uniform(*reverberation_seconds_range)
    direct_to_reverberant_db = rng.uniform(*direct_to_reverberant_db_range)
    num_samples = int(reverberation_seconds * SAMPLING_RATE)
    decay = 10 ** (-3 * np.arange(num_samples, dtype=np.float32) / num_samples)
    impulse_response = rng.standard_normal(num_samples, dtype=np.float32) * decay
    impulse_response *= 10 ** (-direct_to_reverberant_db / 20) / np.linalg.norm(impulse_response)
    impulse_response[0] = 1.0
    return impulse_response


def telephone_band(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The band of a telephone, 300-3400 Hz, by a zero-phase filter with Butterworth slopes (order 8, squared)."""
    if len(samples) == 0:
        return samples
    low_hz, high_hz = TELEPHONE_BAND_HZ
    fft_size = _power_of_two(len(samples) + SAMPLING_RATE // 10)  # room for the filter to ring, so that nothing wraps
    frequencies_hz = np.fft.rfftfreq(fft_size, 1 / SAMPLING_RATE)
    with np.errstate(divide="ignore"):
        response = 1 / (1 + (low_hz / frequencies_hz) ** 16) / (1 + (frequencies_hz / high_hz) ** 16)
    spectrum = np.fft.rfft(samples, fft_size) * response.astype(np.float32)
    return np.fft.irfft(spectrum, fft_size)[: len(samples)]


def encode_mu_law(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through G.711 mu-law at 8 kHz, 64 kbit/s: the fixed-line telephone."""
    return _through_codec(samples, TELEPHONE_RATE_HZ, format="WAV", subtype="ULAW")


def encode_gsm(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through GSM 06.10 full rate at 8 kHz, 13 kbit/s: the early mobile telephone."""
    return _through_codec(samples, TELEPHONE_RATE_HZ, format="WAV", subtype="GSM610")


def encode_opus(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through Opus at 16 kHz, about 12 kbit/s: a call over the internet."""
    return _through_codec(samples, SAMPLING_RATE, format="OGG", subtype="OPUS", compression_level=0.98)


def encode_mp3(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through MP3 at 16 kHz, about 22 kbit/s, which leaves little above 4.5 kHz."""
    return _through_codec(samples, SAMPLING_RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.98)


def clip(samples: np.ndarray, rng: np.random.Generator, share_of_peak: float = 0.1) -> np.ndarray:
    """Cut everything above `share_of_peak` of the loudest sample: an overdriven microphone."""
    limit = share_of_peak * np.abs(samples).max(initial=0.0)
    return np.clip(samples, -limit, limit)


def gain(samples: np.ndarray, rng: np.random.Generator, gain_db: float) -> np.ndarray:
    """Louder by `gain_db`; nothing is clipped."""
    return samples * np.float32(10 ** (gain_db / 20))


def change_speed(samples: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Play `factor` times as fast, which moves the pitch too; the length is divided by `factor` (Ko et al. 2015)."""
    return resample(samples, factor, 1.0)


def warp_formants(samples: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Another vocal tract, 1/`factor` as long: the resonances move up by `factor`, pitch and pace stay.

    The spectral envelope, smoothed in the cepstrum, is stretched along frequency in every frame (the idea of Jaitly and
    Hinton 2013, on the waveform). No frequency of a frame changes by more than 20 dB.
    """
    window = np.sqrt(np.hanning(WARP_FRAME_SAMPLES + 1)[:-1]).astype(np.float32)
    padded = np.pad(samples, WARP_FRAME_SAMPLES)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WARP_FRAME_SAMPLES)[::WARP_HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * window)
    cepstrum = np.fft.irfft(np.log(np.abs(spectrum) + 1e-6))
    cepstrum[:, WARP_ENVELOPE_CEPSTRA : 1 - WARP_ENVELOPE_CEPSTRA] = 0.0
    envelope = np.fft.rfft(cepstrum).real
    last = envelope.shape[1] - 1
    source = np.minimum(np.arange(last + 1) / factor, last)
    below = np.minimum(source.astype(int), last - 1)
    share = (source - below).astype(np.float32)
    warped = envelope[:, below] * (1 - share) + envelope[:, below + 1] * share
    spectrum *= np.exp(np.clip(warped - envelope, -np.log(10), np.log(10)))
    changed = np.zeros_like(padded)
    for start, frame in zip(range(0, len(padded), WARP_HOP_SAMPLES), np.fft.irfft(spectrum) * window, strict=False):
        changed[start : start + WARP_FRAME_SAMPLES] += frame
    overlap = WARP_FRAME_SAMPLES / WARP_HOP_SAMPLES / 2  # squared windows add up to this everywhere
    return (changed / np.float32(overlap))[WARP_FRAME_SAMPLES:][: len(samples)]


def equalize(samples: np.ndarray, rng: np.random.Generator, std_db: float) -> np.ndarray:
    """Another microphone: gains drawn from a normal distribution at `EQUALIZER_HZ`, straight lines in dB between."""
    fft_size = _power_of_two(len(samples) + SAMPLING_RATE // 10)  # room for the filter to ring, so that nothing wraps
    gains_db = np.interp(
        np.fft.rfftfreq(fft_size, 1 / SAMPLING_RATE), EQUALIZER_HZ, rng.normal(0.0, std_db, len(EQUALIZER_HZ))
    )
    spectrum = np.fft.rfft(samples, fft_size) * (10 ** (gains_db / 20)).astype(np.float32)
    return np.fft.irfft(spectrum, fft_size)[: len(samples)]


def active_samples_mask(samples: np.ndarray) -> np.ndarray:
    """Bool [samples]: True in frames of 20 ms whose mean power is above 0 and within 40 dB of the loudest frame's."""
    powers, lengths = _frame_powers(samples)
    return np.repeat(_active_frames(powers), lengths)


def active_power(samples: np.ndarray) -> float:
    """Mean power over the samples of `active_samples_mask`; 0 for silence."""
    powers, lengths = _frame_powers(samples)
    active = _active_frames(powers)
    return float(np.average(powers[active], weights=lengths[active])) if active.any() else 0.0


class Recordings:
    """Audio files, drawn at random; each is decoded when first drawn and then kept, up to `MAX_CACHED_SAMPLES`."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = find_audio_files(paths)
        self._decoded: dict[Path, np.ndarray] = {}
        self._num_cached_samples = 0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Float32 [samples] at 16 kHz of one recording."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        samples = self._decoded.get(path)
        if samples is None:
            samples = load_audio(path)
            if self._num_cached_samples + len(samples) <= MAX_CACHED_SAMPLES:
                self._decoded[path] = samples
                self._num_cached_samples += len(samples)
        return samples


@dataclass
class TrainingAugmentation:
    """Random speed, vocal tract, room, noise, microphone and gain, in this order: `augmentation(samples, rng)`.

    The result depends only on the samples and the state of `rng`. Recorded noise needs `noise_dir`; without
    `impulse_response_dir` the rooms are synthetic. Ranges are uniform. Raises UserError when a folder has no audio.
    """

    noise_dir: str | Path | None = None
    impulse_response_dir: str | Path | None = None
    speed_range: tuple[float, float] = (0.85, 1.18)
    formant_probability: float = 0.5
    formant_factor_range: tuple[float, float] = (0.85, 1.18)
    room_probability: float = 0.3
    noise_probability: float = 0.5
    noise_snr_db_range: tuple[float, float] = (3.0, 25.0)
    equalizer_probability: float = 0.5
    equalizer_std_db: float = 4.0
    gaussian_probability: float = 0.2
    gaussian_sigma_range: tuple[float, float] = (0.001, 0.01)
    gain_db_range: tuple[float, float] = (-6.0, 6.0)

    def __post_init__(self) -> None:
        self._noises = _recordings_in(self.noise_dir)
        self._rooms = _recordings_in(self.impulse_response_dir)

    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        samples = change_speed(samples, rng, rng.uniform(*self.speed_range))
        if rng.random() < self.formant_probability:
            samples = warp_formants(samples, rng, rng.uniform(*self.formant_factor_range))
        if rng.random() < self.room_probability:
            samples = _random_room(samples, rng, self._rooms)
        if self._noises is not None and rng.random() < self.noise_probability:
            noise = self._noises.draw(rng)
            samples = add_noise_at_snr(samples, rng, noise, rng.uniform(*self.noise_snr_db_range))
        if rng.random() < self.equalizer_probability:
            samples = equalize(samples, rng, self.equalizer_std_db)
        if rng.random() < self.gaussian_probability:
            samples = add_gaussian(samples, rng, rng.uniform(*self.gaussian_sigma_range))
        return gain(samples, rng, rng.uniform(*self.gain_db_range))


@dataclass(frozen=True)
class Condition:
    """A named corruption: `condition(samples, rng) -> samples`."""

    name: str
    corrupt: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.corrupt(samples, rng)


CONDITIONS = (
    "clean, gaussian:SIGMA, noise:SNR_DB, noise:SNR_DB:KIND, babble:SNR_DB, room, room:NAME, telephone, mu_law, gsm, "
    "opus, mp3, clip, gain:DB"
)
CONDITION_GROUPS = "rooms, protocol"
PROTOCOL = (
    "clean",
    *("gaussian:0.005", "gaussian:0.01", "gaussian:0.015", "gaussian:0.02"),
    *("noise:20", "noise:10", "noise:5", "noise:0"),
    "babble:10",
    "rooms",
    *("telephone", "mu_law", "gsm", "opus", "mp3"),
    *("clip", "gain:-20"),
)


def parse_conditions(
    text: str,
    noise_dir: str | Path | None = None,
    impulse_response_dir: str | Path | None = None,
    babble_paths: Sequence[str | Path] = (),
) -> list[Condition]:
    """The conditions of a list such as "clean,noise:5,rooms", each once, in this order; see `parse_condition`.

    A group stands for several: "rooms" for every room in `impulse_response_dir`, each on its own, and "protocol" for
    all that is in `PROTOCOL`.
    """
    names = [name for part in text.split(",") for name in _expand_group(part.strip(), impulse_response_dir)]
    return [parse_condition(name, noise_dir, impulse_response_dir, babble_paths) for name in dict.fromkeys(names)]


def parse_condition(
    text: str,
    noise_dir: str | Path | None = None,
    impulse_response_dir: str | Path | None = None,
    babble_paths: Sequence[str | Path] = (),
) -> Condition:
    """The condition that `text` names, such as "clean", "gaussian:0.01", "noise:5" or "room"; see `CONDITIONS`.

    "noise:5" draws from all of `noise_dir`, "noise:5:rain" from its folder "rain"; babble needs `babble_paths`
    (recordings of speech). "room" draws from `impulse_response_dir`, without which the rooms are synthetic;
    "room:hall" is the impulse response file "hall" there, whatever its suffix. Raises UserError for an unknown name, a
    missing or unwanted number or missing recordings.
    """
    kind, colon, value = text.partition(":")
    if kind in _PLAIN_CONDITIONS and not colon:
        return Condition(text, _PLAIN_CONDITIONS[kind])
    if kind == "room" and not colon:
        return Condition(text, partial(_random_room, rooms=_recordings_in(impulse_response_dir)))
    if kind == "room":
        rooms = _find_rooms(text, impulse_response_dir)
        if value not in rooms:
            raise UserError(f"condition '{text}': no such room; choose from {', '.join(rooms)}")
        return Condition(text, partial(reverberate, impulse_response=load_audio(rooms[value])))
    if kind not in ("gaussian", "noise", "babble", "gain"):
        raise UserError(f"condition '{text}': unknown; choose one of: {CONDITIONS}; or a group: {CONDITION_GROUPS}")
    if kind == "noise":
        level, _, folder = value.partition(":")
        number = _parse_number(text, level)
        if noise_dir is None:
            raise UserError(f"condition '{text}': it needs recordings of noise; give --noise_dir")
        noises = Recordings([Path(noise_dir) / folder])
        return Condition(text, partial(_random_noise, noises=noises, snr_db=number))
    number = _parse_number(text, value)
    if kind == "gaussian":
        if number < 0:
            raise UserError(f"condition '{text}': sigma is below 0; give 0 or more")
        return Condition(text, partial(add_gaussian, sigma=number))
    if kind == "gain":
        return Condition(text, partial(gain, gain_db=number))
    if not babble_paths:
        raise UserError(f"condition '{text}': it needs recordings of other voices; give --babble_dir")
    return Condition(text, partial(_random_babble, voices=Recordings(babble_paths), snr_db=number))


def _expand_group(name: str, impulse_response_dir: str | Path | None) -> list[str]:
    """The names of the conditions of a group; a condition itself is the only one."""
    if name == "protocol":
        return [member for part in PROTOCOL for member in _expand_group(part, impulse_response_dir)]
    if name == "rooms":
        return [f"room:{room}" for room in _find_rooms(name, impulse_response_dir)]
    return [name]


def _find_rooms(text: str, impulse_response_dir: str | Path | None) -> dict[str, Path]:
    """The impulse response files by name."""
    if impulse_response_dir is None:
        raise UserError(f"condition '{text}': it needs impulse responses of rooms; give --impulse_response_dir")
    return {path.stem: path for path in find_audio_files([impulse_response_dir])}


def _keep(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples


def _random_noise(samples: np.ndarray, rng: np.random.Generator, noises: Recordings, snr_db: float) -> np.ndarray:
    return add_noise_at_snr(samples, rng, noises.draw(rng), snr_db)


def _random_babble(samples: np.ndarray, rng: np.random.Generator, voices: Recordings, snr_db: float) -> np.ndarray:
    return add_babble(samples, rng, [voices.draw(rng) for _ in range(NUM_BABBLE_VOICES)], snr_db)


def _random_room(samples: np.ndarray, rng: np.random.Generator, rooms: Recordings | None) -> np.ndarray:
    impulse_response = synthetic_impulse_response(rng) if rooms is None else rooms.draw(rng)
    return reverberate(samples, rng, impulse_response)


_PLAIN_CONDITIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "clean": _keep,
    "telephone": telephone_band,
    "mu_law": encode_mu_law,
    "gsm": encode_gsm,
    "opus": encode_opus,
    "mp3": encode_mp3,
    "clip": clip,
}


def _parse_number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise UserError(f"condition '{text}': it needs a number after ':'; choose one of: {CONDITIONS}") from error
    if not np.isfinite(number):
        raise UserError(f"condition '{text}': {value} is not a finite number; give one")
    return number


def _recordings_in(folder: str | Path | None) -> Recordings | None:
    return None if folder is None else Recordings([folder])


def _frame_powers(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean power [frames] float64, samples in each frame [frames]); the last frame may be short."""
    starts = np.arange(0, len(samples), ACTIVITY_FRAME_SAMPLES)
    lengths = np.diff(starts, append=len(samples))
    energies = np.add.reduceat(np.square(samples, dtype=np.float64), starts) if len(starts) else np.zeros(0)
    return energies / lengths, lengths


def _active_frames(powers: np.ndarray) -> np.ndarray:
    return (powers > 0.0) & (powers >= powers.max(initial=0.0) * 10 ** (-ACTIVITY_RANGE_DB / 10))


def _power_of_two(at_least: int) -> int:
    return 1 << max(at_least - 1, 0).bit_length()


def _convolve(samples: np.ndarray, impulse_response: np.ndarray) -> np.ndarray:
    """Linear convolution [samples + impulse_response - 1]."""
    length = len(samples) + len(impulse_response) - 1
    fft_size = _power_of_two(length)
    return np.fft.irfft(np.fft.rfft(samples, fft_size) * np.fft.rfft(impulse_response, fft_size), fft_size)[:length]


def _through_codec(samples: np.ndarray, rate_hz: int, **encoding: Any) -> np.ndarray:
    """Encode and decode in memory; libsndfile itself takes the delay of Opus and MP3 out."""
    if len(samples) == 0:
        return samples
    stream = io.BytesIO()
    soundfile.write(stream, resample(samples, SAMPLING_RATE, rate_hz), rate_hz, **encoding)
    stream.seek(0)
    decoded, _ = soundfile.read(stream, dtype="float32")
    restored = resample(decoded, rate_hz, SAMPLING_RATE)[: len(samples)]
    return np.pad(restored, (0, len(samples) - len(restored)))
