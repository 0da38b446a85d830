"""Recognise a data set greedily and count the errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Wav2Vec2Processor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.data.bucketing import BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.errors import UserError
from lact_asr_model.hybrid_network import HybridNetwork
from lact_asr_model.metrics import ErrorCounts, character_errors, error_report, word_errors
from lact_asr_model.training.adapted_step import evaluating
from lact_asr_model.training.loading import make_loader, model_inputs, read_batches


@dataclass(frozen=True)
class ValidationResult:
    """CTC loss (mean over utterances), and for every utterance its transcript and error counts.

    is_adapted: whether each utterance was adapted to first. skipped: (id, reason) of recordings that cannot be read.
    """

    loss: float
    transcripts: list[dict[str, Any]]
    word_counts: list[ErrorCounts]
    character_counts: list[ErrorCounts]
    is_adapted: bool = False
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def words(self) -> ErrorCounts:
        return sum(self.word_counts, ErrorCounts())

    @property
    def characters(self) -> ErrorCounts:
        return sum(self.character_counts, ErrorCounts())

    def describe(self) -> str:
        """The rates on one line."""
        words, characters = self.words, self.characters
        return (
            f"loss {self.loss:.4f}  WER {100 * words.rate:.2f} % ({words.errors}/{words.reference_length})  "
            f"CER {100 * characters.rate:.2f} %{'  with adaptation' if self.is_adapted else ''}"
        )

    def summary(self) -> dict[str, Any]:
        """The figures for `results.json`; intervals are 95 % bootstrap over utterances."""
        return {
            "num_utterances": len(self.transcripts),
            "is_adapted": self.is_adapted,
            "loss": self.loss,
            **error_report(self.word_counts, self.character_counts),
        }


def validate(
    model: HybridNetwork,
    utterances: Sequence[Utterance],
    processor: Wav2Vec2Processor,
    accelerator: Accelerator,
    *,
    batch_size: int | None = None,
    batch_seconds: float | None = None,
    num_workers: int = 0,
    with_adaptation: bool = False,
) -> ValidationResult:
    """Recognise `utterances`, each by one of the processes; every process gets the whole result.

    The model is in evaluation mode meanwhile. Recordings that cannot be read are left out.

    Args:
        with_adaptation: adapt to each utterance first, as the model's configuration says.

    Raises:
        UserError: none of the recordings can be read.
    """
    share = list(utterances)[accelerator.process_index :: accelerator.num_processes]
    records: dict[int, dict[str, Any]] = {}
    skipped: list[tuple[str, str]] = []
    if share:
        limits = {"batch_size": batch_size, "batch_seconds": batch_seconds}
        records, skipped = _recognise(model, share, processor, accelerator, limits, num_workers, with_adaptation)
    positions = range(accelerator.process_index, len(utterances), accelerator.num_processes)
    gathered = dict(gather_object([(positions[place], record) for place, record in records.items()]))
    skipped = gather_object(skipped)
    if not gathered:
        raise UserError(f"validation: none of the recordings can be read, such as {skipped[0][1]}")
    ordered = [gathered[position] for position in sorted(gathered)]
    return ValidationResult(
        loss=sum(record["loss"] for record in ordered) / len(ordered),
        transcripts=[{name: record[name] for name in ("id", "ref", "hyp", "duration")} for record in ordered],
        word_counts=[word_errors(record["ref"], record["hyp"]) for record in ordered],
        character_counts=[character_errors(record["ref"], record["hyp"]) for record in ordered],
        is_adapted=with_adaptation,
        skipped=skipped,
    )


@torch.no_grad()
def _recognise(
    model: HybridNetwork,
    utterances: list[Utterance],
    processor: Wav2Vec2Processor,
    accelerator: Accelerator,
    limits: dict[str, Any],
    num_workers: int,
    with_adaptation: bool,
) -> tuple[dict[int, dict[str, Any]], list[tuple[str, str]]]:
    """What was recognised, by the place in `utterances`, and (id, reason) of what could not be read."""
    durations_seconds = [utterance.duration_seconds for utterance in utterances]
    sampler = BucketBatchSampler(durations_seconds, **limits, shuffle=False)
    dataset = UtteranceDataset(utterances, processor.tokenizer, skip_bad=True)
    collator = CTCCollator(processor.feature_extractor)
    loader = make_loader(dataset, sampler, collator, num_workers, accelerator.device)
    symbols = processor.tokenizer.convert_ids_to_tokens(range(model.config.vocab_size))

    acoustic_model = HybridAcousticModel(model, processor)
    records: dict[int, dict[str, Any]] = {}
    skipped: list[tuple[str, str]] = []
    with evaluating(model):
        for batch in read_batches(loader):
            skipped += batch["skipped"]
            if not batch["ids"]:
                continue
            inputs = model_inputs(batch, accelerator.device)
            with accelerator.autocast():
                logits, loss = _answer(acoustic_model, inputs, with_adaptation)
            log_probs = logits.float().log_softmax(-1).cpu()
            num_frames = model.frame_lengths(batch["attention_mask"]).tolist()
            for row, index in enumerate(batch["indices"]):
                records[index] = {
                    "id": utterances[index].id,
                    "ref": utterances[index].text,
                    "hyp": greedy_decode(log_probs[row, : num_frames[row]], symbols).text,
                    "duration": utterances[index].duration_seconds,
                    "loss": float(loss),
                }
    return records, skipped


def _answer(
    acoustic_model: HybridAcousticModel, inputs: dict[str, Tensor], with_adaptation: bool
) -> tuple[Tensor, Tensor]:
    """Logits [batch, frames, vocab] and the loss, adapted or not."""
    model = acoustic_model.model
    if not with_adaptation:
        output = model(**inputs)
        return output.logits, output.ctc_loss
    speech = {name: values for name, values in inputs.items() if name != "labels"}
    adaptation = adapt(acoustic_model, speech, acoustic_model.default_options)
    return adaptation.logits, model.ctc_loss(adaptation.logits, adaptation.frame_mask, inputs["labels"])
