"""Recordings in memory, of whatever type: arrays, tensors and lists to float32 [samples]."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lact_asr_model.errors import UserError

_MOST_CHANNELS = 16
_WANTED = "give samples at 16 kHz, as float in [-1, 1] or as int16 or int32"


def as_recordings(recordings: Any) -> list[np.ndarray]:
    """Each of `recordings` as `as_samples` gives it; a single array or tensor [samples] is one recording.

    Raises:
        UserError: one of them is nothing that can be heard; the message says what is wanted.
    """
    if _is_array(recordings) and recordings.ndim == 1 and recordings.dtype != object:
        recordings = [recordings]
    if not (isinstance(recordings, Sequence) or _is_array(recordings)) or isinstance(recordings, str | bytes):
        raise UserError(f"recordings: they are {_kind(recordings)}; give a list of them, one array each")
    return [as_samples(recording, f"recording {index}") for index, recording in enumerate(recordings)]


def as_samples(recording: Any, name: str) -> np.ndarray:
    """A recording as float32 [samples].

    Integers are scaled by their range, and two-dimensional ones ([channels, samples] or [samples, channels], of up to
    16 channels) are averaged.

    Args:
        recording: array, tensor on any device, or list, at 16 kHz.
        name: how errors call it.

    Raises:
        UserError: it is nothing that can be heard, or holds NaN or infinite samples.
    """
    if _is_tensor(recording):
        recording = recording.detach().cpu()
        recording = (recording.float() if recording.is_floating_point() else recording).numpy()
    try:
        samples = np.asarray(recording)
    except ValueError:
        raise UserError(f"{name}: its channels differ in length; {_WANTED}") from None
    if samples.size == 0:
        return np.zeros(0, dtype=np.float32)
    samples = _mono(_scaled(samples, recording, name), name)
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: samples are NaN or infinite; check where they come from")
    return samples


def _scaled(samples: np.ndarray, recording: Any, name: str) -> np.ndarray:
    kind, num_bytes = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        return samples.astype(np.float32, copy=False)
    if kind == "i" and num_bytes in (2, 4):
        return np.multiply(samples, np.float32(2.0 ** (1 - 8 * num_bytes)), dtype=np.float32)
    if samples.ndim == 0 or kind not in "iub":
        raise UserError(f"{name}: it is {_kind(recording)}; {_WANTED}")
    raise UserError(f"{name}: its samples are {samples.dtype}, whose range is not known; {_WANTED}")


def _mono(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.ndim == 1:
        return samples
    if samples.ndim == 2:
        num_channels = min(samples.shape)
        if num_channels == 1:
            return samples.reshape(-1)
        if num_channels <= _MOST_CHANNELS < max(samples.shape):
            return samples.mean(axis=int(samples.shape[1] == num_channels), dtype=np.float32)
    shape = ", ".join(map(str, samples.shape))
    raise UserError(f"{name}: its shape is [{shape}]; give [samples], [channels, samples] or [samples, channels]")


def _is_array(thing: Any) -> bool:
    return isinstance(thing, np.ndarray) or _is_tensor(thing)


def _is_tensor(thing: Any) -> bool:
    torch = sys.modules.get("torch")  # where it is not loaded, there are none
    return torch is not None and isinstance(thing, torch.Tensor)


def _kind(thing: Any) -> str:
    return f"{type(thing).__name__} of {thing.dtype}" if isinstance(thing, np.ndarray) else type(thing).__name__
