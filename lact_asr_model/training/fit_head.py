"""Fit the CTC head to a stack that stays as it is: the start of fine-tuning, on a few hours of transcribed speech.

A random head sends a pretrained stack gradients that say nothing, for as long as CTC needs to leave its first plateau,
where every frame is blank. A head alone leaves it in minutes: the stack's answers are computed once and kept.

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
arXiv:2202.10054 (linear probing, then fine-tuning).
"""

import argparse
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lact_asr_model.checkpoint_io import load_checkpoint, save_pretrained_folder
from lact_asr_model.data.bucketing import BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.loading import Batch, make_loader, model_inputs, read_batches
from lact_asr_model.training.selection import select_trainable

MAX_SAMPLES = 400_000  # 25 s


class Answers(NamedTuple):
    """What the stack says to a batch: hidden [batch, frames, size], frame_mask [batch, frames], labels."""

    hidden: Tensor
    frame_mask: Tensor
    labels: Tensor


@torch.no_grad()
def stack_answers(model: HybridASRForCTC, batches: Iterable[Batch]) -> list[Answers]:
    """Last hidden states of every batch, in evaluation mode."""
    device = next(model.parameters()).device
    answers = []
    for batch in batches:
        inputs = model_inputs(batch, device)
        features, frame_mask = model.encode(inputs["input_values"], inputs["attention_mask"])
        answers.append(Answers(model.run_stack(features, frame_mask), frame_mask, inputs["labels"]))
    return answers


def fit_head(model: HybridASRForCTC, answers: Sequence[Answers], epochs: int, peak_lr: float) -> list[float]:
    """Train `model.lm_head` in place with CTC, beginning at zero; returns the mean loss of every epoch."""
    head, order = model.lm_head, random.Random(0)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=peak_lr, weight_decay=1e-3)
    total_steps = epochs * len(answers)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=total_steps, pct_start=0.1)
    means = []
    for epoch in range(epochs):
        losses = []
        for hidden, frame_mask, labels in order.sample(answers, len(answers)):
            loss = model.ctc_loss(model.classify(hidden, frame_mask), frame_mask, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
        print(f"epoch {epoch + 1} of {epochs}: loss {means[-1]:.4f}", flush=True)
    return means


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: fit the head of a checkpoint and save the checkpoint to fine-tune."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--init_from", type=Path, required=True, help="checkpoint, such as `moonshine` writes")
    parser.add_argument("--data_dir", type=Path, help="folder with the LibriSpeech subsets or manifests")
    parser.add_argument("--train_subset", required=True, help="transcribed sources joined by '+'")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a checkpoint for train --init_from")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--peak_lr", type=float, default=1e-2)
    parser.add_argument("--batch_seconds", type=float, default=40.0)
    parser.add_argument("--num_workers", type=int, default=2)
    with one_line_errors():
        _fit(parser.parse_args(argv))


def _fit(arguments: argparse.Namespace) -> None:
    if arguments.epochs < 1:
        raise UserError(f"--epochs {arguments.epochs}: is not above 0; give a positive number")
    shared = ("peak_lr", "batch_seconds", "num_workers")
    TrainingArguments(**{name: getattr(arguments, name) for name in shared})  # refuses what no training can run with
    model, processor = load_checkpoint(arguments.init_from)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    utterances = read_utterances(arguments.train_subset, arguments.data_dir)
    selection = select_trainable(utterances, model.config, max_audio_samples=MAX_SAMPLES)
    durations = [utterance.duration_seconds for utterance in selection.utterances]
    sampler = BucketBatchSampler(durations, batch_seconds=arguments.batch_seconds, shuffle=False)
    dataset = UtteranceDataset(selection.utterances, processor.tokenizer)
    collator = CTCCollator(processor.feature_extractor)
    loader = make_loader(dataset, sampler, collator, arguments.num_workers, device)
    fit_head(model, stack_answers(model, read_batches(loader)), arguments.epochs, arguments.peak_lr)
    save_pretrained_folder(arguments.output_dir, model, processor)


if __name__ == "__main__":
    main()
