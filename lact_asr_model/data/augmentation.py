"""Random corruptions of training audio."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lact_asr_model.data.corruptions import (
    add_gaussian,
    add_noise_at_snr,
    change_speed,
    equalize,
    gain,
    warp_formants,
)
from lact_asr_model.data.recordings import random_room, recordings_in


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
        self._noises = recordings_in(self.noise_dir)
        self._rooms = recordings_in(self.impulse_response_dir)

    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        samples = change_speed(samples, rng, rng.uniform(*self.speed_range))
        if rng.random() < self.formant_probability:
            samples = warp_formants(samples, rng, rng.uniform(*self.formant_factor_range))
        if rng.random() < self.room_probability:
            samples = random_room(samples, rng, self._rooms)
        if self._noises is not None and rng.random() < self.noise_probability:
            noise = self._noises.draw(rng)
            samples = add_noise_at_snr(samples, rng, noise, rng.uniform(*self.noise_snr_db_range))
        if rng.random() < self.equalizer_probability:
            samples = equalize(samples, rng, self.equalizer_std_db)
        if rng.random() < self.gaussian_probability:
            samples = add_gaussian(samples, rng, rng.uniform(*self.gaussian_sigma_range))
        return gain(samples, rng, rng.uniform(*self.gain_db_range))
