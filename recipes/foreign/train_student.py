"""Train a small wav2vec2, HuBERT or WavLM of `transformers` on read speech, with the bundled model as its teacher.

The student has wav2vec2's conv encoder (seven layers of its kernels and strides, a frame every 20 ms) and its
transformer with positions from a convolution. To need hours of a CPU rather than weeks, it starts near the teacher: the
attention and feed-forward of its blocks are copies of the teacher's, the first conv layers hand the samples on, and the
fifth has filters of the teacher's first. What the teacher has and the student has not, rotary positions and the layer
memory, it has to make up for. The teacher is run at the student's frame rate, so that the two can be compared frame by
frame: the student learns what the teacher's blocks read, the state after each block, the log-probabilities, and the
transcripts.
"""

import argparse
import copy
import math
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, PreTrainedModel

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.checkpoint_io import load_checkpoint, save_atomically
from lact_asr_model.data.augmentation import TrainingAugmentation
from lact_asr_model.data.bucketing import BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.loading import make_loader, model_inputs, read_batches
from lact_asr_model.training.optimizers import ADAM_BETAS, set_learning_rate

KINDS = ("wav2vec2", "hubert", "wavlm")
NUM_FILTERS = 160
CONV_DIM = (10, 20, 40, 80, 2 * NUM_FILTERS, 384, 416)
COPIED_BLOCKS = (0, 1, 3, 5, 6, 7)
STUDENT_FRAME_SAMPLES, STUDENT_FIELD_SAMPLES = 320, 400
LONGEST_SECONDS = 20.0
EMA_DECAY = 0.99
WARMUP_STEPS = 30
SECONDS_BETWEEN_SAVES = 600
RIDGE = 1e-3
FITTED_BATCHES = 6
INITIAL_NOISE = 0.02
LOSS_WEIGHTS = {"features": 1.0, "states": 0.3, "teacher": 1.0, "ctc": 0.1}
STATE = "training_state.pt"
CPU = torch.device("cpu")


def make_teacher() -> tuple[HybridASRForCTC, Any]:
    """The bundled model at the student's frame rate, and its processor."""
    model, processor = load_checkpoint()
    config = copy.deepcopy(model.config)
    config.encoder_target_ds_factor = STUDENT_FRAME_SAMPLES // config.stem_stride
    teacher = HybridASRForCTC(config)
    teacher.load_state_dict(model.state_dict())
    return teacher.eval().requires_grad_(False), processor


def make_student(kind: str, teacher: HybridASRForCTC) -> PreTrainedModel:
    """A student with the teacher's sizes, head and chosen blocks; the last two conv layers and positions are random."""
    theirs = teacher.config
    config = AutoConfig.for_model(
        kind,
        vocab_size=theirs.vocab_size,
        pad_token_id=theirs.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        hidden_size=theirs.hidden_size,
        num_hidden_layers=len(COPIED_BLOCKS),
        num_attention_heads=theirs.num_attn_heads,
        intermediate_size=theirs.intermediate_size,
        conv_dim=list(CONV_DIM),
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        conv_bias=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
    )
    student = AutoModelForCTC.from_config(config, attn_implementation="eager")
    pass_samples_on([layer.conv for layer in student.base_model.feature_extractor.conv_layers], teacher)
    encoder = student.base_model.encoder
    for layer, index in zip(encoder.layers, COPIED_BLOCKS, strict=True):
        block: Any = teacher.layers[index]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            getattr(layer.attention, name).load_state_dict(getattr(block.attention, name).state_dict())
        layer.layer_norm.load_state_dict(block.attention_norm.state_dict())
        layer.final_layer_norm.load_state_dict(block.feed_forward_norm.state_dict())
        layer.feed_forward.intermediate_dense.load_state_dict(block.feed_forward[0].state_dict())
        layer.feed_forward.output_dense.load_state_dict(block.feed_forward[2].state_dict())
    encoder.layer_norm.load_state_dict(teacher.final_norm.state_dict())
    student.lm_head.load_state_dict(teacher.lm_head.state_dict())
    return student


@torch.no_grad()
def pass_samples_on(convolutions: Sequence[Any], teacher: HybridASRForCTC) -> None:
    """Start the first four layers as the identity, and the fifth with filters of the teacher's first.

    GELU(x) - GELU(-x) = x: a pair of channels of opposite sign hands a sample on unchanged, and the group norm of the
    first layer does nothing to samples of unit variance. Each frame of layer 0 hands on 5 samples, and each of the next
    three layers, which have half as many frames, twice as many. The filters chosen are those that count most.
    """
    num_samples = convolutions[0].stride[0]
    for index, convolution in enumerate(convolutions[:4]):
        convolution.weight.normal_(std=INITIAL_NOISE)
        convolution.bias.zero_()
        if index:
            num_samples *= 2
        for sample in range(num_samples):
            tap, before = divmod(sample, num_samples // 2) if index else (sample, 0)
            for sign, channel in ((1.0, 2 * sample), (-1.0, 2 * sample + 1)):
                convolution.weight[channel, 2 * before, tap] += sign
                if index:
                    convolution.weight[channel, 2 * before + 1, tap] -= sign
    encoder: Any = teacher.encoder
    first, second = (layer.conv for layer in encoder.conv_layers[:2])
    heard = first.weight[:, 0, : 3 * num_samples]
    chosen = (heard.norm(dim=1) * second.weight.norm(dim=(0, 2))).topk(NUM_FILTERS).indices
    filters = heard[chosen].unflatten(1, (3, num_samples)).mT
    pairs = torch.stack([filters, -filters], dim=2).flatten(1, 2)
    convolutions[4].weight.copy_(torch.cat([pairs, -pairs]))
    convolutions[4].bias.zero_()


def take_over(student: PreTrainedModel, folder: Path) -> None:
    """Start from a student of another kind: all modules that the two share, and a WavLM that ignores distances."""
    other = AutoModelForCTC.from_pretrained(folder)
    prefixes = (f"{other.base_model_prefix}.", f"{student.base_model_prefix}.")
    weights = {name.replace(*prefixes, 1): weight for name, weight in other.state_dict().items()}
    missing, unexpected = student.load_state_dict(weights, strict=False)
    if unexpected or any("rel_" not in name for name in missing):
        raise UserError(f"{folder}: is not a student of this script with the same sizes; give another --init_from")
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "rel_attn_embed" in name:
                weight.zero_()


@torch.no_grad()
def teacher_features(teacher: HybridASRForCTC, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the teacher's blocks read [batch, frames, hidden], and frame_mask.

    Silence is added on both sides, so that the teacher's frames have the student's centres.
    """
    margin = teacher.config.receptive_field_samples - STUDENT_FIELD_SAMPLES
    samples = F.pad(inputs["input_values"], (margin // 2, margin - margin // 2))
    return teacher.encode(samples, F.pad(inputs["attention_mask"], (margin, 0), value=1))


@torch.no_grad()
def teach(teacher: HybridASRForCTC, inputs: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """The states [batch, frames, hidden] before the first and after every block, and the logits."""
    features, frame_mask = teacher_features(teacher, inputs)
    states = [features, *teacher.run_blocks(features, frame_mask)]
    return states, teacher.classify(teacher.final_norm(states[-1]))


def embed(student: PreTrainedModel, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the student's encoder takes [batch, frames, hidden], and frame_mask bool [batch, frames]."""
    base = student.base_model
    features = base.feature_extractor(inputs["input_values"]).mT
    mask = base._get_feature_vector_attention_mask(features.shape[1], inputs["attention_mask"])
    projected = base.feature_projection(features)
    hidden = projected[0] if isinstance(projected, tuple) else projected
    return hidden * mask[..., None], mask


def listen(student: PreTrainedModel, hidden: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """The states after every block, and the logits; `hidden` is what the encoder takes."""
    encoder = student.base_model.encoder
    states: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in encoder.layers]
    last = encoder(hidden.clone(), attention_mask=mask).last_hidden_state
    for handle in handles:
        handle.remove()
    return states, student.lm_head(last)


def distance(ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over real frames as a share of the teacher's variance."""
    ours, theirs = ours[mask].float(), theirs[mask].float()
    return (ours - theirs).square().mean() / theirs.var(0).mean()


@torch.no_grad()
def fit_projection(student: PreTrainedModel, teacher: HybridASRForCTC, batches: Sequence[dict[str, Tensor]]) -> None:
    """Scale the filters, and start the projection as the linear regression to what the teacher's blocks read."""
    base = student.base_model
    hidden = torch.cat([inputs["input_values"].flatten() for inputs in batches])[None, None]
    for index, layer in enumerate(base.feature_extractor.conv_layers):
        if index > 3:
            layer.conv.weight.div_(layer.conv(hidden).std((0, 2))[:, None, None])
        hidden = layer(hidden)
    base.encoder.pos_conv_embed.conv.parametrizations.weight.original0.mul_(0.1)
    pairs = []
    for inputs in batches:
        features = base.feature_projection.layer_norm(base.feature_extractor(inputs["input_values"]).mT)
        mask = base._get_feature_vector_attention_mask(features.shape[1], inputs["attention_mask"])
        pairs.append((features[mask], teacher_features(teacher, inputs)[0][mask]))
    ours, theirs = (torch.cat(frames) for frames in zip(*pairs, strict=True))
    our_mean, their_mean = ours.mean(0), theirs.mean(0)
    ours, theirs = ours - our_mean, theirs - their_mean
    products = ours.mT @ ours
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products))
    weight = torch.linalg.solve(products, ours.mT @ theirs).mT
    base.feature_projection.projection.weight.copy_(weight)
    base.feature_projection.projection.bias.copy_(their_mean - weight @ our_mean)


def front_end_loss(student: PreTrainedModel, teacher: HybridASRForCTC, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The one term of the training loss that needs no block of either model."""
    hidden, mask = embed(student, inputs)
    return {"features": distance(hidden, teacher_features(teacher, inputs)[0], mask)}


def losses(
    student: PreTrainedModel, teacher: HybridASRForCTC, inputs: dict[str, Tensor], own_share: float
) -> dict[str, Tensor]:
    """The terms of the training loss by name; the student's blocks hear its own front end in that share of the batch,
    and the teacher's in the rest."""
    their_states, their_logits = teach(teacher, inputs)
    hidden, mask = embed(student, inputs)
    terms = {"features": distance(hidden, their_states[0], mask)}
    is_own = torch.rand(len(mask), 1, 1) < own_share
    states, logits = listen(student, torch.where(is_own, hidden, their_states[0]), mask)
    pairs = zip(states, COPIED_BLOCKS, strict=True)
    terms["states"] = torch.stack([distance(ours, their_states[index + 1], mask) for ours, index in pairs]).mean()
    ours = F.log_softmax(logits.float(), dim=-1)
    theirs = F.log_softmax(their_logits.float(), dim=-1)
    terms["teacher"] = F.kl_div(ours[mask], theirs[mask], log_target=True, reduction="batchmean")
    labels = inputs["labels"]
    terms["ctc"] = F.ctc_loss(
        ours.transpose(0, 1), labels.clamp(min=0), mask.sum(-1), (labels >= 0).sum(-1), zero_infinity=True
    )
    return terms


def make_optimizers(student: PreTrainedModel, peak_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for everything else."""
    front_end: list[Tensor] = []
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, weight in student.named_parameters():
        if name.endswith(("_proj.weight", "_dense.weight")):
            matrices.append(weight)
        elif "feature_" in name or "pos_conv_embed" in name:
            front_end.append(weight)
        else:
            others.append(weight)
    adam_groups = [{"params": front_end, "peak_lr": 2 * peak_lr}, {"params": others, "peak_lr": 0.5 * peak_lr}]
    return [
        torch.optim.AdamW(adam_groups, betas=ADAM_BETAS, weight_decay=0.0, fused=True),
        torch.optim.Muon([{"params": matrices, "peak_lr": peak_lr}], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    ]


def batches(arguments: argparse.Namespace, processor: Any, seed: int) -> Iterator[dict[str, Any]]:
    """Batches without end."""
    utterances = read_utterances(arguments.train_subset, arguments.data_dir)
    utterances = [utterance for utterance in utterances if utterance.duration_seconds <= LONGEST_SECONDS]
    augmentation = TrainingAugmentation(
        noise_dir=arguments.noise_dir,
        speed_range=(1.0, 1.0),
        formant_probability=0.0,
        room_probability=0.0,
        noise_probability=0.3,
        equalizer_probability=0.3,
    )
    dataset = UtteranceDataset(utterances, processor.tokenizer, augmentation, seed)
    durations_seconds = [utterance.duration_seconds for utterance in utterances]
    sampler = BucketBatchSampler(durations_seconds, batch_seconds=arguments.batch_seconds, seed=seed)
    loader = make_loader(dataset, sampler, CTCCollator(processor.feature_extractor), 0, CPU)
    for epoch in count():
        sampler.set_epoch(epoch)
        dataset.set_epoch(epoch)
        yield from read_batches(loader)


class Training:
    """A student with its optimisers and the average of its weights, kept in a folder of `transformers`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(arguments.seed)
        self.teacher, self.processor = make_teacher()
        self.student = make_student(arguments.kind, self.teacher)
        if arguments.init_from is not None:
            take_over(self.student, arguments.init_from)
        self.optimizers = make_optimizers(self.student, arguments.peak_lr)
        self.average = {name: weight.clone() for name, weight in self.student.state_dict().items()}
        self.folder, self.step = arguments.output_dir, 0
        if (self.folder / STATE).is_file():
            state = torch.load(self.folder / STATE, map_location=CPU, weights_only=True)
            self.student.load_state_dict(state["model"])
            self.average, self.step = state["average"], state["step"]
            for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)

    def take_step(self, inputs: dict[str, Tensor], arguments: argparse.Namespace) -> dict[str, float]:
        """Returns the terms of the loss."""
        joint_steps = self.step - arguments.front_end_steps
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            if joint_steps < 0:
                terms = front_end_loss(self.student, self.teacher, inputs)
            else:
                own_share = joint_steps / arguments.taught_steps if arguments.taught_steps else 1.0
                terms = losses(self.student, self.teacher, inputs, own_share)
        torch.stack([LOSS_WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.step += 1
        set_learning_rate(self.optimizers, min(1.0, self.step / WARMUP_STEPS))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for name, weight in self.student.state_dict().items():
            self.average[name].lerp_(weight, 1 - EMA_DECAY)
        return {name: term.item() for name, term in terms.items()}

    def save(self) -> None:
        """What is needed to go on, and the averaged student."""
        self.folder.mkdir(parents=True, exist_ok=True)
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"model": self.student.state_dict(), "average": self.average, "optimizers": optimizers}
        save_atomically(self.folder / STATE, {**state, "step": self.step})
        finished = copy.deepcopy(self.student)
        finished.load_state_dict(self.average)
        finished.save_pretrained(self.folder)
        self.processor.save_pretrained(self.folder)


def train(arguments: argparse.Namespace) -> None:
    """Train until the steps or the minutes are over; the folder then holds a model of `transformers`."""
    training = Training(arguments)
    print(f"{arguments.kind}: {training.student.num_parameters() / 1e6:.1f} M parameters, step {training.step}")
    if training.step >= arguments.max_steps:
        return
    began = saved = reported = time.monotonic()
    heard_seconds, recent = 0.0, list[dict[str, float]]()
    source = batches(arguments, training.processor, arguments.seed + training.step)
    if training.step == 0 and arguments.init_from is None:
        first = [model_inputs(batch, CPU) for batch in islice(source, FITTED_BATCHES)]
        fit_projection(training.student, training.teacher, first)
    for batch in source:
        inputs = model_inputs(batch, CPU)
        recent.append(training.take_step(inputs, arguments))
        heard_seconds += inputs["attention_mask"].sum().item() / SAMPLING_RATE
        now = time.monotonic()
        if training.step % arguments.log_every == 0:
            means = "  ".join(f"{name} {fmean(terms[name] for terms in recent):.4f}" for name in recent[0])
            print(f"step {training.step}  {means}  {heard_seconds / (now - reported):.1f} audio s/s", flush=True)
            heard_seconds, recent, reported = 0.0, [], now
        is_over = training.step >= arguments.max_steps or now - began > 60 * arguments.minutes
        if is_over or now - saved > SECONDS_BETWEEN_SAVES:
            training.save()
            saved = now
        if is_over:
            return


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; started again with the same folder, it goes on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--kind", choices=KINDS, default="wav2vec2")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the LibriSpeech subsets or manifests")
    parser.add_argument("--train_subset", required=True, help="sources joined by '+'")
    parser.add_argument("--noise_dir", type=Path, help="recordings of noise, added to some of the speech")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--init_from", type=Path, help="a student of another kind to start from")
    parser.add_argument("--front_end_steps", type=int, default=1200, help="of the front end alone, the first ones")
    parser.add_argument("--taught_steps", type=int, default=100, help="after those, until it hears its front end alone")
    parser.add_argument("--batch_seconds", type=float, default=45.0)
    parser.add_argument("--max_steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--peak_lr", type=float, default=1.5e-3)
    parser.add_argument("--log_every", type=int, default=10)
    parser.add_argument("--bf16", action="store_true", help="which is faster on processors with AVX-512 BF16")
    parser.add_argument("--seed", type=int, default=0)
    with one_line_errors():
        train(parser.parse_args(argv))


if __name__ == "__main__":
    main()
