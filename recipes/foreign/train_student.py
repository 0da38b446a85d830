"""Train a small wav2vec2, HuBERT or WavLM of `transformers` on read speech, with the bundled model as its teacher.

The student has wav2vec2's conv encoder (seven layers of its kernels and strides, a frame every 20 ms) and its
transformer with positions from a convolution. To need hours of a CPU rather than weeks, it starts near the teacher: the
attention of its blocks is a copy of the teacher's, its feed-forward has the neurons there that count most, the first
conv layers hand the samples on, and the fifth has filters of the teacher's first. What the teacher has and the student
has not, it has to make up for: the layer memory, worth a few points of WER, and rotary positions, without which the
teacher says nothing. A WavLM adds a number for each distance to its attention, and starts with what the teacher's
attention is there on average. A wav2vec2 or HuBERT has to learn positions from its convolution, and learns next to
nothing in the time that a WavLM needs (docs/EXPERIMENTS.md).

The teacher is run at the student's frame rate, so that the two can be compared frame by frame. In the first steps,
which cost a fifth of the others, only the front end learns what the teacher's blocks read. Then the whole student
learns that, the state after each block, the log-probabilities, and the transcripts.
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
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, PreTrainedModel

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.checkpoint_io import load_checkpoint, save_atomically
from lact_asr_model.data.augmentation import TrainingAugmentation
from lact_asr_model.data.bucketing import BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import one_line_errors
from lact_asr_model.lact_layer import rotate_by_position, split_heads
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.loading import make_loader, model_inputs, read_batches
from lact_asr_model.training.optimizers import ADAM_BETAS, set_learning_rate

KINDS = ("wav2vec2", "hubert", "wavlm")
NUM_FILTERS = 160
CONV_DIM = (10, 20, 40, 80, 2 * NUM_FILTERS, 384, 416)
NUM_NEURONS = 1152  # of a feed-forward layer; the teacher has 1664, and the student is to have 15 M parameters at most
STUDENT_FRAME_SAMPLES, STUDENT_FIELD_SAMPLES = 320, 400
LONGEST_SECONDS = 20.0
EMA_DECAY = 0.99
WARMUP_STEPS = 30
SECONDS_BETWEEN_SAVES = 600
RIDGE = 1e-3
FITTED_BATCHES = 6
INITIAL_NOISE = 0.02
TABLE_ROUNDS = 10
CONTENT_SHARE = 0.6  # of the logits of attention, where a bias of distances is added
DROP_BEYOND = 2.0  # of the logits of attention beyond the teacher's window
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
    """A student with the teacher's hidden size, head and attention; the last two conv layers, the feed-forward and the
    positions are random."""
    theirs = teacher.config
    config = AutoConfig.for_model(
        kind,
        vocab_size=theirs.vocab_size,
        pad_token_id=theirs.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        hidden_size=theirs.hidden_size,
        num_hidden_layers=theirs.num_hidden_layers,
        num_attention_heads=theirs.num_attn_heads,
        intermediate_size=NUM_NEURONS,
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
    for layer, block in zip(encoder.layers, teacher_blocks(teacher), strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            getattr(layer.attention, name).load_state_dict(getattr(block.attention, name).state_dict())
        layer.layer_norm.load_state_dict(block.attention_norm.state_dict())
        layer.final_layer_norm.load_state_dict(block.feed_forward_norm.state_dict())
    encoder.layer_norm.load_state_dict(teacher.final_norm.state_dict())
    student.lm_head.load_state_dict(teacher.lm_head.state_dict())
    return student


def teacher_blocks(teacher: HybridASRForCTC) -> list[Any]:
    return list(teacher.layers)


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


@torch.no_grad()
def fit_feed_forward(student: PreTrainedModel, teacher: HybridASRForCTC, batches: Sequence[dict[str, Tensor]]) -> None:
    """Start each feed-forward layer with the teacher's neurons that count most, and the linear regression from them to
    what all of them give."""
    blocks = teacher_blocks(teacher)
    active: list[list[Tensor]] = [[] for _ in blocks]
    for kept, block in zip(active, blocks, strict=True):
        block.feed_forward[2].register_forward_pre_hook(
            lambda _, inputs, kept=kept: kept.append(inputs[0].flatten(0, 1))
        )
    for inputs in batches:
        teach(teacher, inputs)
    for layer, block, kept in zip(student.base_model.encoder.layers, blocks, active, strict=True):
        block.feed_forward[2]._forward_pre_hooks.clear()
        neurons, outer = torch.cat(kept), block.feed_forward[2]
        chosen = (neurons.var(0) * outer.weight.square().sum(0)).topk(NUM_NEURONS).indices
        products = neurons.T.cov()[chosen]
        regularized = products[:, chosen] + RIDGE * products[:, chosen].diagonal().mean() * torch.eye(NUM_NEURONS)
        weight = torch.linalg.solve(regularized, products @ outer.weight.T).T
        layer.feed_forward.intermediate_dense.weight.copy_(block.feed_forward[0].weight[chosen])
        layer.feed_forward.intermediate_dense.bias.copy_(block.feed_forward[0].bias[chosen])
        layer.feed_forward.output_dense.weight.copy_(weight)
        means = neurons.mean(0)
        layer.feed_forward.output_dense.bias.copy_(outer(means) - weight @ means[chosen])


@torch.no_grad()
def attention_by_distance(teacher: HybridASRForCTC, batches: Sequence[dict[str, Tensor]]) -> Tensor:
    """The mean logit of the attention in each block at each distance (key minus query), less the mean over all
    distances: [blocks, heads, 2 * radius + 1]."""
    blocks = teacher_blocks(teacher)
    first = blocks[0].attention
    distances = range(-first.radius, first.radius + 1)
    sums, counts = torch.zeros(len(blocks), first.num_heads, len(distances)), torch.zeros(len(distances))
    for inputs in batches:
        states, _ = teach(teacher, inputs)
        _, mask = teacher_features(teacher, inputs)
        for row, block in enumerate(blocks):
            attention, heard = block.attention, block.attention_norm(states[row])
            queries, keys = (
                rotate_by_position(
                    split_heads(projection(heard), attention.num_heads), attention.rope_theta, attention.rotary_size
                )
                for projection in (attention.q_proj, attention.k_proj)
            )
            logits = queries @ keys.mT / math.sqrt(queries.shape[-1])
            for column, distance in enumerate(distances):
                is_pair = (mask[:, :, None] & mask[:, None, :]).diagonal(distance, 1, 2)
                values = logits.diagonal(distance, 2, 3)
                sums[row, :, column] += torch.where(is_pair[:, None], values, 0).sum((0, 2))
                counts[column] += is_pair.sum() / len(blocks)
    means = sums / counts.clamp(min=1)
    return means - means.mean(-1, keepdim=True)


def shared_tables(by_distance: Tensor) -> tuple[Tensor, list[Any], Tensor]:
    """One table of distances for each head, which all blocks share, as WavLM wants it.

    Args:
        by_distance: [blocks, heads, distances].

    Returns:
        The tables [heads, distances]; for each block the head of `by_distance` that takes each table, so that the error
        is least; and how much of it each takes: [blocks, heads], not negative.
    """
    tables = by_distance[len(by_distance) // 2]
    for _ in range(TABLE_ROUNDS):
        shares = (by_distance @ tables.mT / tables.square().sum(-1).clamp(min=1e-9)).clamp(
            min=0
        )  # [blocks, head, table]
        errors = (by_distance[:, :, None] - shares[..., None] * tables).square().sum(-1)
        heads = [linear_sum_assignment(of_block.mT.numpy())[1] for of_block in errors]
        chosen = torch.stack([of_block[taken] for of_block, taken in zip(by_distance, heads, strict=True)])
        share = torch.stack(
            [
                of_block.mT.gather(1, torch.tensor(taken)[:, None])[:, 0]
                for of_block, taken in zip(shares, heads, strict=True)
            ]
        )
        tables = (share[..., None] * chosen).sum(0) / share.square().sum(0)[:, None].clamp(min=1e-9)
    return tables, heads, share


@torch.no_grad()
def fit_distances(student: PreTrainedModel, teacher: HybridASRForCTC, batches: Sequence[dict[str, Tensor]]) -> None:
    """Start a WavLM's bias of distances as the teacher's mean attention; its heads change places for that."""
    tables, heads, shares = shared_tables(attention_by_distance(teacher, batches))
    layers = student.base_model.encoder.layers
    for layer, taken, share in zip(layers, heads, shares, strict=True):
        attention = layer.attention
        for name in ("q_proj", "k_proj", "v_proj"):
            projection = getattr(attention, name)
            for weight in (projection.weight, projection.bias):
                weight.copy_(weight.unflatten(0, (len(taken), -1))[taken].flatten(0, 1))
        weight = attention.out_proj.weight
        weight.copy_(weight.unflatten(1, (len(taken), -1))[:, taken].flatten(1, 2))
        attention.q_proj.weight.mul_(CONTENT_SHARE)
        attention.q_proj.bias.mul_(CONTENT_SHARE)
        attention.gru_rel_pos_linear.weight.zero_()  # both of its gates are 1/2 then: share = (const / 2 - 1) / 2 + 2
        attention.gru_rel_pos_linear.bias.zero_()
        attention.gru_rel_pos_const.copy_(4 * (share - 1.5)[:, None, None])
    first = layers[0].attention
    radius = tables.shape[-1] // 2
    bucket_of = first._relative_positions_bucket(torch.arange(-radius, radius + 1))
    embedding = first.rel_attn_embed.weight  # [buckets, heads]
    embedding.copy_(tables.min(-1).values - DROP_BEYOND)
    for bucket in bucket_of.unique():
        embedding[bucket] = tables[:, bucket_of == bucket].mean(-1)


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
    pairs = zip(states, their_states[1:], strict=True)
    terms["states"] = torch.stack([distance(ours, theirs, mask) for ours, theirs in pairs]).mean()
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
    if training.step == 0:
        first = [model_inputs(batch, CPU) for batch in islice(source, FITTED_BATCHES)]
        fit_projection(training.student, training.teacher, first)
        fit_feed_forward(training.student, training.teacher, first)
        if arguments.kind == "wavlm":
            fit_distances(training.student, training.teacher, first)
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
    parser.add_argument("--kind", choices=KINDS, default="wavlm")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the LibriSpeech subsets or manifests")
    parser.add_argument("--train_subset", required=True, help="sources joined by '+'")
    parser.add_argument("--noise_dir", type=Path, help="recordings of noise, added to some of the speech")
    parser.add_argument("--output_dir", type=Path, required=True)
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
