"""Utterances as a torch dataset of samples and labels."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lact_asr_model.data.bucketing import Item
from lact_asr_model.data.joining import join_samples
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class UtteranceDataset(Dataset[dict[str, Any]]):
    """Items {"index": what it was asked for, "id": str, "samples": float32 [samples] in [-1, 1], "labels": list[int]}.

    `augmentation(samples, rng)` corrupts the samples; what it does to item i depends only on (seed, epoch, i), not on
    workers, batches or order. Several indices are one item: their recordings one after the other, corrupted as one, and
    their transcripts as one. With `tokenizer=None` the labels are empty, for data without transcripts.

    With `skip_bad`, a recording that cannot be read is left out of its item, which has it under "skipped", a list of
    (id, reason); "samples" is None if nothing is left. Without, it is a UserError.
    Raises UserError when a transcript is missing that the tokenizer needs.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: "PreTrainedTokenizerBase | None",
        augmentation: Augmentation | None = None,
        seed: int = 0,
        *,
        skip_bad: bool = False,
    ) -> None:
        if tokenizer is not None:
            for utterance in utterances:
                if utterance.text is None:
                    raise UserError(f"{utterance.id}: it has no transcript; add 'text' to its manifest or leave it out")
        self.utterances = list(utterances)
        self.tokenizer = tokenizer
        self.augmentation = augmentation
        self.seed = seed
        self.skip_bad = skip_bad
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentations the next items get; call it before iterating."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: Item) -> dict[str, Any]:
        indices = (index,) if isinstance(index, int) else index
        rng = np.random.default_rng([self.seed, int(self._epoch), *indices])
        utterances, recordings, skipped = [], [], []
        for utterance in (self.utterances[one] for one in indices):
            try:
                recordings.append(load_samples(utterance))
                utterances.append(utterance)
            except UserError as error:
                if not self.skip_bad:
                    raise
                skipped.append((utterance.id, str(error)))
        samples = join_samples(recordings, rng) if recordings else None
        if samples is not None and self.augmentation is not None:
            samples = self.augmentation(samples, rng)
        labels = []
        if self.tokenizer is not None:
            labels = self.tokenizer(" ".join(utterance.text or "" for utterance in utterances)).input_ids
        name = "+".join(utterance.id for utterance in utterances)
        return {"index": index, "id": name, "samples": samples, "labels": labels, "skipped": skipped}
