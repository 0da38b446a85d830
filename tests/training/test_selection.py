from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.decoding.alignment import frames_needed
from lact_asr_model.errors import UserError
from lact_asr_model.training.selection import select_trainable


def utterance(text: str | None, duration_seconds: float) -> Utterance:
    return Utterance(id="u", audio_path=Path("u.wav"), text=text, duration_seconds=duration_seconds)


@given(st.text("AB ", min_size=1, max_size=12))
def test_ctc_can_align_with_just_the_frames_needed_and_not_with_one_fewer(text: str) -> None:
    targets = torch.tensor([["AB ".index(character) + 1 for character in text]])

    def loss(num_frames: int) -> float:
        log_probs = torch.full((num_frames, 1, 4), 0.25).log()
        return F.ctc_loss(log_probs, targets, torch.tensor([num_frames]), torch.tensor([len(text)])).item()

    needed = frames_needed(text)
    assert loss(needed) < float("inf")
    if needed > 1:
        assert loss(needed - 1) == float("inf")


def test_counts_what_it_leaves_out_by_reason(tiny_config: HybridASRConfig) -> None:
    seconds_for_4_frames = tiny_config.num_samples(4) / tiny_config.sampling_rate
    kept = [utterance("ABCD", seconds_for_4_frames), utterance("A", 15.0)]
    selection = select_trainable(
        [
            *kept,
            utterance("ABCC", seconds_for_4_frames),
            utterance("A", 15.7),
            utterance(None, 1.0),
            utterance("", 1.0),
        ],
        tiny_config,
        max_audio_samples=250_000,
    )
    assert selection.utterances == kept
    assert (selection.num_too_long, selection.num_too_short, selection.num_untranscribed) == (1, 1, 2)
    assert selection.describe().startswith("2 utterances, 0.00 hours (left out: 1 longer")


def test_what_only_just_fits_is_left_out_when_it_may_be_played_faster(tiny_config: HybridASRConfig) -> None:
    just_fits = utterance("ABCD", tiny_config.num_samples(4) / tiny_config.sampling_rate)
    other = utterance("A", 1.0)
    options = {"max_audio_samples": 250_000, "fastest_speed": 1.1}
    assert select_trainable([just_fits, other], tiny_config, **options).utterances == [other]


def test_no_data_at_all_is_an_error(tiny_config: HybridASRConfig) -> None:
    with pytest.raises(UserError, match="--train_subset: nothing is left to train on, 0 utterances.* 1 longer"):
        select_trainable([utterance("A", 20.0)], tiny_config, max_audio_samples=250_000)
