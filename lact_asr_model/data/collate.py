"""Dataset items to padded batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from transformers import Wav2Vec2FeatureExtractor

IGNORED_LABEL = -100
NO_LABEL = torch.tensor([IGNORED_LABEL])


class CTCCollator:
    """Normalise every utterance over its true length and pad the batch to the longest.

    Gives {"ids": list[str], "indices": list of what the data set was asked for, "input_values" [batch, samples]
    float32, "attention_mask" [batch, samples] int64, "labels" [batch, length] int64, padded with -100, "skipped": list
    of (id, reason)}. Items without samples are only in "skipped". If there are no others, the tensors hold a second of
    silence without a label, which is in neither list: every process can then go through the same steps.
    """

    def __init__(self, feature_extractor: "Wav2Vec2FeatureExtractor") -> None:
        self.feature_extractor = feature_extractor

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        readable = [item for item in items if item["samples"] is not None]
        silence = np.zeros(self.feature_extractor.sampling_rate, dtype=np.float32)
        features = self.feature_extractor(
            [item["samples"] for item in readable] or [silence],
            sampling_rate=self.feature_extractor.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        labels = [torch.tensor(item["labels"], dtype=torch.int64) for item in readable]
        return {
            "ids": [item["id"] for item in readable],
            "indices": [item["index"] for item in readable],
            "input_values": features["input_values"],
            "attention_mask": features["attention_mask"].long(),
            "labels": pad_sequence(labels or [NO_LABEL], batch_first=True, padding_value=IGNORED_LABEL),
            "skipped": [skipped for item in items for skipped in item["skipped"]],
        }
