"""Recordings in memory, of every type that people hand over."""

import numpy as np
import pytest
import torch

from lact_asr_model.errors import UserError
from lact_asr_model.recognition.sample_arrays import as_recordings, as_samples

SAMPLES = np.array([0.0, 0.5, -0.25, -1.0] * 25, dtype=np.float32)
SAME = {
    "float64": SAMPLES.astype(np.float64),
    "float16": SAMPLES.astype(np.float16),
    "int16": (SAMPLES * 32768).astype(np.int16),
    "int32": (SAMPLES * 2.0**31).astype(np.int32),
    "a list": SAMPLES.tolist(),
    "a tuple": tuple(SAMPLES.tolist()),
    "a tensor": torch.tensor(SAMPLES),
    "a bfloat16 tensor": torch.tensor(SAMPLES).bfloat16(),
    "a tensor with a gradient": torch.tensor(SAMPLES, requires_grad=True),
    "an int16 tensor": torch.tensor(SAMPLES * 32768).to(torch.int16),
    "[channels, samples]": np.stack([SAMPLES * 1.5, SAMPLES * 0.5]),
    "[samples, channels]": np.stack([SAMPLES * 1.5, SAMPLES * 0.5], axis=1),
    "int16 [samples, channels]": (np.stack([SAMPLES, SAMPLES], axis=1) * 32768).astype(np.int16),
    "[1, samples]": SAMPLES[None],
    "[samples, 1]": SAMPLES[:, None],
    "every second sample of another": np.repeat(SAMPLES, 2)[::2],
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_recording_in_every_type_is_the_same(kind: str) -> None:
    samples = as_samples(SAME[kind], "recording 0")
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, SAMPLES)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (np.arange(100), "its samples are int64, whose range is not known"),
        (np.arange(100, dtype=np.uint8), "its samples are uint8, whose range is not known"),
        ([0, 1, 2], "its samples are int64, whose range is not known"),
        (np.zeros(100, dtype=bool), "its samples are bool"),
        (np.zeros(100, dtype=complex), "it is ndarray of complex128"),
        (np.zeros((100, 100), dtype=np.float32), r"its shape is \[100, 100\]; give \[samples\], \[channels, samples\]"),
        (np.zeros((3, 4), dtype=np.float32), r"its shape is \[3, 4\]"),
        (np.zeros((2, 3, 4), dtype=np.float32), r"its shape is \[2, 3, 4\]"),
        ([[0.1, 0.2], [0.1]], "its channels differ in length"),
        ("a.wav", "it is str"),
        (b"RIFF", "it is bytes"),
        (None, "it is NoneType"),
        (0.5, r"its shape is \[\]"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (torch.tensor([0.0, torch.inf]), "NaN or infinite"),
    ],
)
def test_what_cannot_be_heard_is_one_line_that_says_what_is_wanted(recording: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^recording 0: .*{message}") as caught:
        as_samples(recording, "recording 0")
    assert "; " in str(caught.value)


def test_one_array_alone_is_one_recording() -> None:
    for alone in (SAMPLES, torch.tensor(SAMPLES)):
        (samples,) = as_recordings(alone)
        np.testing.assert_array_equal(samples, SAMPLES)
    assert [len(samples) for samples in as_recordings(np.stack([SAMPLES, SAMPLES]))] == [100, 100]
    assert [len(samples) for samples in as_recordings([])] == []


@pytest.mark.parametrize("recordings", ["a.wav", None, 3])
def test_no_list_of_recordings_is_one_line(recordings: object) -> None:
    with pytest.raises(UserError, match="^recordings: they are .*; give a list of them"):
        as_recordings(recordings)
