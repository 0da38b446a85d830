"""Padding of batches."""

import numpy as np
import torch

from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.text import build_vocabulary, make_processor

COLLATE = CTCCollator(make_processor(build_vocabulary(["AB"])).feature_extractor)


def make_item(name: str, num_samples: int, labels: list[int]) -> dict:
    samples = np.random.default_rng(num_samples).normal(0.3, 0.1, num_samples).astype(np.float32)
    return {"index": 7, "id": name, "samples": samples, "labels": labels, "skipped": []}


def test_batch_is_padded_and_normalised() -> None:
    batch = COLLATE([make_item("a", 300, [3, 4]), make_item("b", 500, [4, 2, 3])])
    assert batch["ids"] == ["a", "b"]
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 500)
    assert batch["input_values"].dtype == torch.float32
    assert batch["attention_mask"].dtype == batch["labels"].dtype == torch.int64
    assert batch["attention_mask"].sum(dim=1).tolist() == [300, 500]
    assert batch["labels"].tolist() == [[3, 4, -100], [4, 2, 3]]
    assert not batch["input_values"][0, 300:].any()
    for row, length in zip(batch["input_values"], [300, 500], strict=True):
        assert abs(float(row[:length].mean())) < 1e-5
        assert abs(float(row[:length].std()) - 1) < 1e-2


def test_neighbours_do_not_change_an_utterance() -> None:
    item = make_item("a", 300, [3])
    alone, together = COLLATE([item]), COLLATE([item, make_item("b", 500, [4])])
    torch.testing.assert_close(alone["input_values"][0], together["input_values"][0, :300], rtol=0, atol=0)


def test_silence_and_empty_labels() -> None:
    batch = COLLATE([{**make_item("a", 160, []), "samples": np.zeros(160, dtype=np.float32)}])
    assert not batch["input_values"].any()
    assert batch["labels"].shape == (1, 0)


def test_what_could_not_be_read_is_only_told_of() -> None:
    bad = {"index": 3, "id": "", "samples": None, "labels": [], "skipped": [("c", "it is cut")]}
    batch, without = COLLATE([make_item("a", 300, [3]), bad]), COLLATE([make_item("a", 300, [3])])
    assert batch["skipped"] == [("c", "it is cut")] and without["skipped"] == []
    assert batch["ids"] == ["a"] and batch["indices"] == [7]
    for name in ("input_values", "attention_mask", "labels"):
        assert torch.equal(batch[name], without[name])

    batch = COLLATE([bad, bad])
    assert batch["ids"] == batch["indices"] == []
    assert len(batch["skipped"]) == 2
    assert batch["input_values"].shape == batch["attention_mask"].shape == (1, 16000)
    assert not batch["input_values"].any() and batch["labels"].tolist() == [[-100]]
