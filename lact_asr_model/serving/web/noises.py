"""What a visitor of the page can do to a recording: kinds of noise and other damage, by name."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.audio_search import find_audio_files
from lact_asr_model.data.conditions import Condition, parse_condition
from lact_asr_model.data.corruptions import add_noise_at_snr

CLEAN = "none"
WHITE = "white noise"
_SEED = 0
_LEVEL = "{snr_db}"
_WHITE_SECONDS = 10


class Noises:
    """Kinds of damage by name: `CLEAN`, recorded noises by the names of their files, white noise, voices, and others.

    Args:
        noise_dir: folder of recorded noises; there may be none.
        voices: recordings of other people, for babble.

    Raises:
        UserError: the folder holds something, but no audio.
    """

    def __init__(self, noise_dir: Path, voices: Sequence[Path]) -> None:
        self._noise_dir = noise_dir
        self._voices = voices
        recorded = find_audio_files([noise_dir]) if noise_dir.is_dir() else []
        self._conditions = {
            CLEAN: "clean",
            **{path.stem: f"noise:{_LEVEL}:{path.relative_to(noise_dir)}" for path in recorded},
            WHITE: f"white:{_LEVEL}",
            **({"several voices": f"babble:{_LEVEL}"} if voices else {}),
            "echoing room": "room",
            "telephone": "telephone",
            "early mobile telephone": "gsm",
            "overdriven microphone": "clip",
        }

    @property
    def kinds(self) -> list[str]:
        """The names, `CLEAN` first."""
        return list(self._conditions)

    def has_level(self, kind: str) -> bool:
        """Whether the signal-to-noise ratio means something for this kind."""
        return _LEVEL in self._conditions[kind]

    def corrupt(self, samples: np.ndarray, kind: str, snr_db: float) -> np.ndarray:
        """Float32 [samples] at 16 kHz with this kind of damage; the same every time, and at every level."""
        return self._condition(kind, snr_db)(samples, np.random.default_rng(_SEED))

    def _condition(self, kind: str, snr_db: float) -> Condition:
        if kind == WHITE:
            noise = np.random.default_rng(_SEED).standard_normal(_WHITE_SECONDS * SAMPLING_RATE, dtype=np.float32)
            return Condition(kind, partial(add_noise_at_snr, noise=noise, snr_db=snr_db))
        text = self._conditions[kind].replace(_LEVEL, str(snr_db))
        return parse_condition(text, self._noise_dir, babble_paths=self._voices)
