"""The two token mixers of a block: attention against a dense, looped version; memory against its definition."""

import math
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.lact_layer import FastWeightMemory, WindowedAttention, inverse_softplus
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.ops.newton_schulz import newton_schulz

HIDDEN = 24
Module = TypeVar("Module", bound=nn.Module)


def config(**fields: object) -> HybridASRConfig:
    sizes = {
        "hidden_size": HIDDEN, "num_attn_heads": 3, "num_lact_heads": 2, "lact_hidden_size": 16,
        "intermediate_size": 32, "window_size": 8, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    }  # fmt: skip
    return HybridASRConfig(**{**sizes, **fields})


def build(module_class: type[Module], layer_config: HybridASRConfig, seed: int = 0) -> Module:
    """A float64 module whose every parameter is random, biases and norms included."""
    module = module_class(layer_config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
        parameter.data = spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def random_hidden(num_frames: int, batch_size: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, num_frames, HIDDEN, generator=generator, dtype=torch.float64)


def all_real(hidden: Tensor) -> Tensor:
    return torch.ones(hidden.shape[:2], dtype=torch.bool)


def rotate(vectors: Tensor, theta: float, size: int) -> Tensor:
    """RoPE of the first `size` components as complex multiplication, [frames, components]: components j, j + size/2
    turn by position / theta^(2j/size)."""
    half = size // 2
    pairs = torch.complex(vectors[:, :half], vectors[:, half:size])
    frequencies = torch.tensor([theta ** (-2 * index / size) for index in range(half)], dtype=torch.float64)
    angles = torch.outer(torch.arange(len(vectors), dtype=torch.float64), frequencies)
    rotated = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([rotated.real, rotated.imag, vectors[:, size:]], dim=-1)


def dense_attention(
    attention: WindowedAttention, hidden: Tensor, frame_mask: Tensor, layer_config: HybridASRConfig
) -> Tensor:
    """One utterance, one head at a time, with an explicit [frames, frames] table of who may see whom."""
    num_heads, radius = layer_config.num_attn_heads, layer_config.window_size // 2
    size = HIDDEN // num_heads
    num_turned = math.floor(size * layer_config.partial_rotary_factor / 2) * 2
    outputs = []
    for utterance, real in zip(hidden, frame_mask.tolist(), strict=True):
        positions = range(len(utterance))
        visible = torch.tensor([[abs(i - j) <= radius and (real[j] or i == j) for j in positions] for i in positions])
        heads = []
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            queries, keys = (
                rotate(projection(utterance)[:, part], layer_config.rope_theta, num_turned)
                for projection in (attention.q_proj, attention.k_proj)
            )
            scores = (queries @ keys.T / math.sqrt(size)).masked_fill(~visible, -math.inf)
            heads.append(torch.softmax(scores, dim=-1) @ attention.v_proj(utterance)[:, part])
        outputs.append(attention.out_proj(torch.cat(heads, dim=-1)))
    return torch.stack(outputs)


class TestWindowedAttention:
    @pytest.mark.parametrize(("window_size", "rotary_factor"), [(1, 1.0), (2, 0.9), (7, 1.0), (8, 0.5), (8, 0.25)])
    def test_equals_dense_attention_at_every_length(self, window_size: int, rotary_factor: float) -> None:
        layer_config = config(window_size=window_size, partial_rotary_factor=rotary_factor)
        attention = build(WindowedAttention, layer_config)
        with torch.no_grad():
            for num_frames in range(1, 3 * window_size + 3):
                hidden = random_hidden(num_frames)
                frame_mask = all_real(hidden)
                frame_mask[1, num_frames - num_frames // 3 :] = False
                expected = dense_attention(attention, hidden, frame_mask, layer_config)
                assert (attention(hidden, frame_mask) - expected).abs().max() < 1e-5

    def test_window_larger_than_the_sequence_is_full_attention(self) -> None:
        wide, exact = config(window_size=1000), config(window_size=2 * 11)
        hidden = random_hidden(12)
        outputs = [build(WindowedAttention, layer_config)(hidden, all_real(hidden)) for layer_config in (wide, exact)]
        assert (outputs[0] - outputs[1]).abs().max() < 1e-12

    @pytest.mark.parametrize("num_frames", [9, 12, 13, 30])
    def test_a_frame_sees_exactly_the_real_frames_of_its_window(self, num_frames: int) -> None:
        """The Jacobian is zero outside the window and at padding, and nowhere else."""
        radius, num_real = 4, num_frames - 3
        attention = build(WindowedAttention, config(window_size=2 * radius))
        hidden = random_hidden(num_frames, batch_size=1)
        frame_mask = all_real(hidden)
        frame_mask[:, num_real:] = False
        jacobian = torch.autograd.functional.jacobian(lambda x: attention(x, frame_mask)[0].sum(-1), hidden)
        influences = jacobian[:, 0].abs().amax(-1) > 1e-12
        expected = [
            [abs(i - j) <= radius and (j < num_real or i == j) for j in range(num_frames)] for i in range(num_frames)
        ]
        assert influences.tolist() == expected

    @pytest.mark.parametrize("num_frames", [5, 40])
    def test_only_relative_positions_count(self, num_frames: int) -> None:
        attention = build(WindowedAttention, config())
        hidden = random_hidden(num_frames)
        before = torch.cat([random_hidden(17, seed=5), hidden], dim=1)
        frame_mask = all_real(hidden)
        shifted = attention(before, all_real(before))[:, 17:]
        unaffected = slice(4, num_frames)  # the first four see the frames put before them
        assert (shifted - attention(hidden, frame_mask))[:, unaffected].abs().max() < 1e-4

    def test_order_of_frames_counts(self) -> None:
        attention = build(WindowedAttention, config(window_size=100))
        hidden = random_hidden(10)
        reversed_output = attention(hidden.flip(1), all_real(hidden)).flip(1)
        assert (reversed_output - attention(hidden, all_real(hidden))).abs().max() > 1e-3

    @pytest.mark.parametrize("num_frames", [6, 40])
    def test_fully_padded_utterance_is_finite(self, num_frames: int) -> None:
        hidden = random_hidden(num_frames)
        assert build(WindowedAttention, config())(hidden, torch.zeros(2, num_frames, dtype=torch.bool)).isfinite().all()

    def test_dropout_in_training_only(self) -> None:
        attention = build(WindowedAttention, config(attention_dropout=0.5))
        hidden = random_hidden(20)
        assert torch.equal(attention(hidden, all_real(hidden)), attention(hidden, all_real(hidden)))
        attention.train()
        assert not torch.equal(attention(hidden, all_real(hidden)), attention(hidden, all_real(hidden)))


def memory_by_definition(memory: FastWeightMemory, hidden: Tensor, frame_mask: Tensor, muon: bool) -> Tensor:
    """Utterance by utterance and head by head, gradients by autograd, padding cut off instead of masked."""
    num_heads = memory.w0.shape[0]
    outputs = torch.zeros_like(hidden)
    for row, real in enumerate(frame_mask):
        frames = hidden[row, real]
        learning_rates = torch.log1p(torch.exp(memory.lr_proj(frames)))  # [frames, 3 * heads]
        heads = []
        for head, (queries, keys, values) in enumerate(
            zip(
                *(F.silu(p(frames)).chunk(num_heads, -1) for p in (memory.q_proj, memory.k_proj, memory.v_proj)),
                strict=True,
            )
        ):
            queries, keys = (x / x.square().sum(-1, keepdim=True).sqrt() for x in (queries, keys))
            weights = [w[head].detach().clone().requires_grad_() for w in (memory.w0, memory.w1, memory.w2)]
            updated = []
            for index, weight in enumerate(weights):
                predictions = (F.silu(keys @ weights[0]) * (keys @ weights[2])) @ weights[1]
                eta = learning_rates[:, index * num_heads + head]
                loss = -(eta * (predictions * values).sum(-1)).sum()
                (gradient,) = torch.autograd.grad(loss, weight)
                moved = weight + (newton_schulz(-gradient, "muon") if muon else -gradient)
                updated.append(moved * (weight.norm(dim=0) / moved.norm(dim=0)))
            answers = (F.silu(queries @ updated[0]) * (queries @ updated[2])) @ updated[1]
            normalized = answers / (answers.square().mean(-1, keepdim=True) + memory.output_norm.eps).sqrt()
            heads.append(normalized * memory.output_norm.weight)
        outputs[row, real] = memory.out_proj(torch.cat(heads, dim=-1))
    return outputs


class TestFastWeightMemory:
    @pytest.mark.parametrize("muon", [True, False])
    @pytest.mark.parametrize("num_lact_heads", [1, 2])
    @pytest.mark.parametrize("num_frames", [1, 5, 31])
    def test_equals_its_definition(self, num_frames: int, num_lact_heads: int, muon: bool) -> None:
        layer_config = config(num_lact_heads=num_lact_heads, fast_weight_muon=muon, lact_chunk_size=7)
        memory = build(FastWeightMemory, layer_config)
        hidden = random_hidden(num_frames)
        frame_mask = all_real(hidden)
        frame_mask[1, num_frames - num_frames // 3 :] = False
        expected = memory_by_definition(memory, hidden, frame_mask, muon)
        assert (memory(hidden, frame_mask) - expected)[frame_mask].abs().max() < 1e-9

    def test_learning_rates_start_at_the_configured_value(self) -> None:
        """softplus(bias) = fast_weight_lr_init, so hidden states of zero give exactly that rate."""
        for rate in (0.01, 0.5, 3.0):
            model = HybridASRForCTC(config(fast_weight_lr_init=rate, num_hidden_layers=1, conv_dim=[8] * 7))
            hidden = torch.zeros(2, 6, HIDDEN)
            rates = model.layers[0].memory.learning_rates(hidden, all_real(hidden))
            assert rates.shape == (3, 2, 2, 6)
            assert (rates - rate).abs().max() < 1e-6

    def test_learning_rate_of_padding_is_zero_and_of_real_frames_above(self) -> None:
        memory = build(FastWeightMemory, config())
        hidden = random_hidden(6)
        frame_mask = all_real(hidden)
        frame_mask[1, 4:] = False
        rates = memory.learning_rates(hidden, frame_mask)
        assert (rates[:, 1, :, 4:] == 0).all()
        assert (rates[:, 0] > 0).all()
        assert (rates[:, 1, :, :4] > 0).all()

    def test_content_of_padding_does_not_matter(self) -> None:
        memory = build(FastWeightMemory, config())
        hidden = random_hidden(20)
        frame_mask = all_real(hidden)
        frame_mask[:, 15:] = False
        garbage = hidden.clone()
        garbage[:, 15:] = 1e3
        difference = memory(hidden, frame_mask) - memory(garbage, frame_mask)
        assert difference[:, :15].abs().max() < 1e-10

    def test_every_frame_reads_every_frame_in_any_order(self) -> None:
        """One chunk, bidirectional: permuting the frames permutes the answers, and all frames inform each other."""
        memory = build(FastWeightMemory, config())
        hidden = random_hidden(12, batch_size=1)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
        frame_mask = all_real(hidden)
        assert (memory(hidden[:, order], frame_mask) - memory(hidden, frame_mask)[:, order]).abs().max() < 1e-10
        jacobian = torch.autograd.functional.jacobian(lambda x: memory(x, frame_mask)[0].sum(-1), hidden)
        assert (jacobian[:, 0].abs().amax(-1) > 1e-9).all()

    def test_all_parameters_learn(self) -> None:
        memory = build(FastWeightMemory, config())
        hidden = random_hidden(12)
        (memory(hidden, all_real(hidden)) * random_hidden(12, seed=9)).sum().backward()
        for name, parameter in memory.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    def test_given_fast_weights_replace_the_learned_ones_per_utterance(self) -> None:
        memory = build(FastWeightMemory, config())
        hidden = random_hidden(10)
        copies = FastWeights(*(weight.expand(2, -1, -1, -1).clone() for weight in memory.initial_fast_weights()))
        same = memory(hidden, all_real(hidden), copies)
        assert (same - memory(hidden, all_real(hidden))).abs().max() < 1e-12
        copies.w0[1] = copies.w0[1].flip(-1)
        changed = memory(hidden, all_real(hidden), copies)
        assert (changed[0] - same[0]).abs().max() < 1e-12
        assert (changed[1] - same[1]).abs().max() > 1e-3


class TestBlock:
    @staticmethod
    def silence(*linears: nn.Linear) -> None:
        for linear in linears:
            for parameter in linear.parameters():
                parameter.data.zero_()

    def test_three_residuals(self) -> None:
        block = build(LactBlock, config())
        self.silence(block.attention.out_proj, block.memory.out_proj, block.feed_forward[-1])
        hidden = random_hidden(10)
        assert torch.equal(block(hidden, all_real(hidden)), hidden)

    def test_order_attention_memory_feed_forward(self) -> None:
        block = build(LactBlock, config())
        hidden = random_hidden(10)
        mask = all_real(hidden)
        attended = hidden + block.attention(block.attention_norm(hidden), mask)
        remembered = attended + block.memory(block.memory_norm(attended), mask)
        expected = remembered + block.feed_forward(block.feed_forward_norm(remembered))
        assert (block(hidden, mask) - expected).abs().max() < 1e-12

    @pytest.mark.parametrize("with_memory", [True, False])
    def test_only_memory_carries_information_beyond_the_window(self, with_memory: bool) -> None:
        block = build(LactBlock, config(window_size=4))
        if not with_memory:
            self.silence(block.memory.out_proj)
        hidden = random_hidden(40)
        changed = hidden.clone()
        changed[:, 0] = random_hidden(1, seed=7)[:, 0]
        difference = (block(changed, all_real(hidden)) - block(hidden, all_real(hidden))).abs().amax(dim=(0, 2))
        assert (difference[:3] > 1e-6).all()
        if with_memory:
            assert (difference[3:] > 1e-6).all()
        else:
            assert (difference[3:] < 1e-12).all()


def test_inverse_softplus() -> None:
    for value in (1e-6, 0.01, 1.0, 30.0):
        assert math.log1p(math.exp(inverse_softplus(value))) == pytest.approx(value, rel=1e-9)
