"""The conditions of an evaluation by name: clean speech, and what a corruption makes of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lact_asr_model.audio import load_audio
from lact_asr_model.audio_search import find_audio_files
from lact_asr_model.data.corruptions import (
    add_babble,
    add_gaussian,
    add_noise_at_snr,
    clip,
    encode_gsm,
    encode_mp3,
    encode_mu_law,
    encode_opus,
    gain,
    reverberate,
    telephone_band,
)
from lact_asr_model.data.recordings import Recordings, random_room, recordings_in
from lact_asr_model.errors import UserError

NUM_BABBLE_VOICES = 4


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
        return Condition(text, partial(random_room, rooms=recordings_in(impulse_response_dir)))
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
    """The impulse response files by name; where two have the same, it is their path below the folder."""
    if impulse_response_dir is None:
        raise UserError(f"condition '{text}': it needs impulse responses of rooms; give --impulse_response_dir")
    paths = find_audio_files([impulse_response_dir])
    num_of = Counter(path.stem for path in paths)
    return {
        path.stem if num_of[path.stem] == 1 else path.relative_to(impulse_response_dir).as_posix(): path
        for path in paths
    }


def _keep(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples


def _random_noise(samples: np.ndarray, rng: np.random.Generator, noises: Recordings, snr_db: float) -> np.ndarray:
    return add_noise_at_snr(samples, rng, noises.draw(rng), snr_db)


def _random_babble(samples: np.ndarray, rng: np.random.Generator, voices: Recordings, snr_db: float) -> np.ndarray:
    return add_babble(samples, rng, [voices.draw(rng) for _ in range(NUM_BABBLE_VOICES)], snr_db)


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
