"""Which utterances the CTC loss can learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.decoding.alignment import frames_needed
from lact_asr_model.errors import UserError


@dataclass(frozen=True)
class Selection:
    """The utterances kept, and how many were left out for which reason."""

    utterances: list[Utterance]
    num_too_long: int
    num_too_short: int
    num_untranscribed: int

    def describe(self) -> str:
        """One line: how much there is to train on, and what was left out."""
        hours = sum(utterance.duration_seconds for utterance in self.utterances) / 3600
        return (
            f"{len(self.utterances)} utterances, {hours:.2f} hours (left out: {self.num_too_long} longer than "
            f"--max_audio_samples, {self.num_too_short} with fewer frames than characters, "
            f"{self.num_untranscribed} without a transcript)"
        )


def select_trainable(
    utterances: Sequence[Utterance], config: HybridASRConfig, *, max_audio_samples: int, fastest_speed: float = 1.0
) -> Selection:
    """Leave out what is too long, and what CTC cannot align even when it is played at `fastest_speed`.

    Raises:
        UserError: nothing is left.
    """
    kept = []
    num_too_long = num_too_short = num_untranscribed = 0
    for utterance in utterances:
        num_samples = round(utterance.duration_seconds * config.sampling_rate)
        if not utterance.text:
            num_untranscribed += 1
        elif num_samples > max_audio_samples:
            num_too_long += 1
        elif config.num_frames(int(num_samples / fastest_speed)) < frames_needed(utterance.text):
            num_too_short += 1
        else:
            kept.append(utterance)
    selection = Selection(kept, num_too_long, num_too_short, num_untranscribed)
    if not kept:
        raise UserError(f"--train_subset: nothing is left to train on, {selection.describe()}; choose other data")
    return selection
