"""The pictures of the page: a recording as waveform and spectrogram, and what the steps of adaptation lower."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lact_asr_model.acoustic_models.observed import StepPoint
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.evaluation.plots import load_figure_class

NUM_COLUMNS = 1000
_WINDOW_SAMPLES = 400  # 25 ms
_FFT_SAMPLES = 512
_RANGE_DB = 70.0
_COLORS = ("#0072B2", "#D55E00")


def waveform(samples: np.ndarray, num_columns: int = NUM_COLUMNS) -> np.ndarray:
    """The lowest and highest of [samples] in equal stretches: [2, columns], no more columns than samples."""
    starts = np.linspace(0, len(samples), min(num_columns, len(samples)), endpoint=False).astype(int)
    return np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)])


def spectrogram_db(samples: np.ndarray, num_columns: int = NUM_COLUMNS) -> np.ndarray:
    """Power in windows of 25 ms at equal distances: [frequencies from 0 to 8 kHz, columns].

    In dB from the loudest, which is 0, down to -70 dB, which stands for everything below it too.
    """
    padded = np.pad(samples, (0, max(_WINDOW_SAMPLES - len(samples), 0)))
    num_columns = min(num_columns, 1 + (len(padded) - _WINDOW_SAMPLES) // (SAMPLING_RATE // 200))
    starts = np.linspace(0, len(padded) - _WINDOW_SAMPLES, num_columns).astype(int)
    windows = padded[starts[:, None] + np.arange(_WINDOW_SAMPLES)] * np.hanning(_WINDOW_SAMPLES)
    powers = np.square(np.abs(np.fft.rfft(windows, _FFT_SAMPLES))).T
    loudest = max(float(powers.max()), np.finfo(np.float32).tiny)
    return 10 * np.log10(np.maximum(powers / loudest, 10 ** (-_RANGE_DB / 10)))


def draw_recording(samples: np.ndarray) -> Any:
    """A matplotlib figure of [samples] at 16 kHz, at least one: waveform above spectrogram, over the same seconds.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = load_figure_class()(figsize=(10, 3.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    seconds = len(samples) / SAMPLING_RATE
    lowest, highest = waveform(samples)
    above.fill_between(np.linspace(0, seconds, len(lowest)), lowest, highest, color=_COLORS[0], linewidth=0.5)
    peak = max(1.0, float(np.abs(samples).max()))
    above.set_ylim(-peak, peak)
    above.set_ylabel("amplitude")
    extent = (0, seconds, 0, SAMPLING_RATE / 2000)
    below.imshow(spectrogram_db(samples), origin="lower", aspect="auto", extent=extent, cmap="magma")
    below.set_ylabel("kHz")
    below.set_xlabel("seconds")
    return figure


def draw_steps(points: Sequence[StepPoint], loss_type: str) -> Any:
    """A matplotlib figure of loss and entropy before the first step (0) and after each.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = load_figure_class()(figsize=(10, 2.2), layout="constrained")
    panels = figure.subplots(1, 2)
    names = (f"loss ({loss_type})", "mean entropy, nats")
    rows = np.array([(point.loss, point.entropy) for point in points]).reshape(-1, 2).T
    for axes, name, values, color in zip(panels, names, rows, _COLORS, strict=True):
        axes.plot(range(len(values)), values, color=color, marker="o")
        axes.set_ylabel(name)
        axes.set_xlabel("steps")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
