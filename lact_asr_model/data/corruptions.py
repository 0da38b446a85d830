"""Corruptions of speech, which training augmentation and the conditions of evaluation share.

Every corruption is `f(samples, rng, ...) -> samples`: float32 [samples] at 16 kHz in and out, of the same length and
alignment (`change_speed` alone changes the length); the input is never written to. Silence stays finite.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile

from lact_asr_model.audio import SAMPLING_RATE, resample

ACTIVITY_FRAME_SAMPLES = SAMPLING_RATE // 50  # 20 ms
ACTIVITY_RANGE_DB = 40.0
TELEPHONE_BAND_HZ = (300.0, 3400.0)
TELEPHONE_RATE_HZ = 8000
WARP_FRAME_SAMPLES = 512
WARP_HOP_SAMPLES = 128
WARP_ENVELOPE_CEPSTRA = 32  # up to 2 ms, shorter than the period of any voice
EQUALIZER_HZ = (0, 250, 500, 1000, 2000, 3000, 4000, 6000, 8000)


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
