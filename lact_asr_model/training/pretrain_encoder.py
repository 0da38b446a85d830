"""Teach random conv filters to hear before they learn to read: regression of what another front end says.

A recogniser trained from scratch on a few hours first has to find out that speech has a spectrum. Here the conv
encoder and a linear layer behind it predict the log-mel front end's output for the very same frames, which takes
minutes and no transcripts; the linear layer is then thrown away.

With a Moonshine checkpoint, the stack is taken from there, and the conv encoder and its projection learn to imitate
Moonshine's own conv stem. Full-size models start from wav2vec2 weights instead.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.data.bucketing import BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import one_line_errors
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.lengths import length_mask
from lact_asr_model.text import build_vocabulary, make_processor
from lact_asr_model.training.loading import Batch, make_loader, model_inputs, read_batches
from lact_asr_model.training.moonshine import MoonshineStem, copy_stack, load_moonshine_encoder
from lact_asr_model.wav2vec2_encoder import LogMelEncoder


def pretrain_encoder(
    model: HybridASRForCTC,
    regression: nn.Module,
    target_encoder: nn.Module,
    loader: Iterable[Batch],
    sampler: BucketBatchSampler,
    max_steps: int,
    peak_lr: float,
) -> list[float]:
    """Train `model.encoder` and `regression` behind it in place, for `max_steps` batches.

    Args:
        model: a model whose encoder is to learn.
        regression: from the encoder's frames to the target's size.
        target_encoder: from samples [batch, samples] and lengths [batch] to [batch, frames, size].
        loader, sampler: give the batches, epoch by epoch.
        max_steps: number of batches.
        peak_lr: AdamW's learning rate after the first tenth.

    Returns:
        The loss of every step: the mean squared error over real frames relative to the target's variance, 1 for a
        guess of the mean and 0 for a perfect imitation.
    """
    device = next(model.parameters()).device
    parameters = [*model.encoder.parameters(), *regression.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=max_steps, pct_start=0.1)
    losses: list[float] = []
    epoch = 0
    while len(losses) < max_steps:
        sampler.set_epoch(epoch)
        for batch in read_batches(loader):
            inputs = model_inputs(batch, device)
            lengths = inputs["attention_mask"].sum(-1)
            predicted = regression(model.encoder(inputs["input_values"], lengths))
            real = length_mask(model.config.num_frames(lengths), predicted.shape[1])
            with torch.no_grad():
                target = target_encoder(inputs["input_values"], lengths)[real]
            loss = (predicted[real] - target).square().mean() / target.var(dim=0).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0 or len(losses) == max_steps:
                recent = losses[-50:]
                print(f"step {len(losses)} of {max_steps}: loss {sum(recent) / len(recent):.4f}", flush=True)
            if len(losses) == max_steps:
                break
        epoch += 1
    return losses


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: pre-train the conv encoder of a configuration and save the checkpoint to fine-tune."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--config_path", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, help="folder with the LibriSpeech subsets or manifests")
    parser.add_argument("--train_subset", required=True, help="sources joined by '+'; they give the vocabulary")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a checkpoint for train --init_from")
    parser.add_argument("--moonshine", help="Moonshine checkpoint to take the stack from, a hub id or a folder")
    parser.add_argument("--max_steps", type=int, default=400)
    parser.add_argument("--batch_seconds", type=float, default=80.0)
    parser.add_argument("--peak_lr", type=float, default=2e-3)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    with one_line_errors():
        _pretrain(parser.parse_args(argv))


def _pretrain(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    utterances = read_utterances(arguments.train_subset, arguments.data_dir)
    processor = make_processor(build_vocabulary(utterance.text for utterance in utterances if utterance.text))
    config = HybridASRConfig.from_file(arguments.config_path)
    config.vocab_size = len(processor.tokenizer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = HybridASRForCTC(config)
    target_encoder: nn.Module = LogMelEncoder(config)
    regression: nn.Module = nn.Linear(model.encoder.output_size, config.num_mel_bins)
    if arguments.moonshine:
        moonshine = load_moonshine_encoder(arguments.moonshine)
        copy_stack(moonshine, model)
        target_encoder, regression = MoonshineStem(moonshine, config), model.feature_projection
    for module in (model, target_encoder, regression):
        module.to(device)

    durations = [utterance.duration_seconds for utterance in utterances]
    sampler = BucketBatchSampler(durations, batch_seconds=arguments.batch_seconds, seed=arguments.seed)
    collator = CTCCollator(processor.feature_extractor)
    loader = make_loader(UtteranceDataset(utterances, None), sampler, collator, arguments.num_workers, device)
    pretrain_encoder(model, regression, target_encoder, loader, sampler, arguments.max_steps, arguments.peak_lr)
    save_pretrained_folder(arguments.output_dir, model, processor)


if __name__ == "__main__":
    main()
