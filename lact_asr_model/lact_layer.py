"""The two token mixers of a LaCT block: windowed attention, and a memory of fast weights for what lies beyond it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.ops.fast_weights.dispatch import apply_fast_weights, update_fast_weights
from lact_asr_model.ops.window_attention import windowed_attention

_SMALLEST_LENGTH = 1e-6


def split_heads(hidden: Tensor, num_heads: int) -> Tensor:
    """[batch, frames, hidden] to [batch, heads, frames, hidden / heads]."""
    return hidden.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """[batch, heads, frames, size] to [batch, frames, heads * size]."""
    return heads.transpose(1, 2).flatten(2)


def to_unit_length(vectors: Tensor) -> Tensor:
    """Divide by the length over the last dimension; zero stays zero, and can be differentiated twice there."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    if torch.compiler.is_exporting():  # to ONNX, where so small a constant would be taken for zero and left out
        return vectors * torch.rsqrt(squares.clamp(min=_SMALLEST_LENGTH**2))
    return vectors * torch.rsqrt(squares + _SMALLEST_LENGTH**2)


def rotate_by_position(heads: Tensor, theta: float, rotary_size: int) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of the first `rotary_size` (even) of each head's
    dimensions, in [batch, heads, frames, size]; the others know no position."""
    frames, size = heads.shape[-2:]
    dimensions = torch.arange(0, rotary_size, 2, device=heads.device, dtype=torch.float32)
    angles = torch.arange(frames, device=heads.device, dtype=torch.float32)[:, None] * theta ** (
        -dimensions / rotary_size
    )
    cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second, others = heads.split([rotary_size // 2, rotary_size // 2, size - rotary_size], dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, others], dim=-1)


class WindowedAttention(nn.Module):
    """Multi-head attention with rotary positions inside a window of `window_size` frames."""

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attn_heads
        self.radius = config.window_size // 2
        self.rope_theta = config.rope_theta
        self.rotary_size = config.rotary_size
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, frame_mask: Tensor) -> Tensor:
        """hidden [batch, frames, hidden], frame_mask bool [batch, frames], to [batch, frames, hidden]."""
        queries, keys, values = (
            split_heads(projection(hidden), self.num_heads) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries = rotate_by_position(queries, self.rope_theta, self.rotary_size)
        keys = rotate_by_position(keys, self.rope_theta, self.rotary_size)
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(merge_heads(windowed_attention(queries, keys, values, frame_mask, self.radius, dropout)))


class FastWeightMemory(nn.Module):
    """Layer memory: fast weights take one Muon step on the utterance's own keys and values, then answer its queries.

    The utterance is one chunk and the memory is bidirectional: every query is answered by weights that have seen all
    keys. `w0`, `w1`, `w2` are the initial fast weights; training learns them, adaptation moves an utterance's own copy.

    Source: Zhang et al. 2025, "Test-Time Training Done Right", arXiv:2505.23884.
    """

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        heads, size = config.num_lact_heads, config.hidden_size // config.num_lact_heads
        self.num_heads = heads
        self.muon = config.fast_weight_muon
        self.schedule = config.newton_schulz_schedule
        self.chunk_size: int | None = config.lact_chunk_size
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.lr_proj = nn.Linear(config.hidden_size, 3 * heads)
        self.w0 = nn.Parameter(torch.empty(heads, size, config.lact_hidden_size))
        self.w1 = nn.Parameter(torch.empty(heads, config.lact_hidden_size, size))
        self.w2 = nn.Parameter(torch.empty(heads, size, config.lact_hidden_size))
        self.output_norm = nn.RMSNorm(size, eps=config.layer_norm_eps)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def initial_fast_weights(self) -> FastWeights:
        """The learned initial fast weights, with a leading batch dimension of 1."""
        return FastWeights(self.w0[None], self.w1[None], self.w2[None])

    def learning_rates(self, hidden: Tensor, frame_mask: Tensor) -> Tensor:
        """softplus(linear(hidden)), zero at padded frames: [3, batch, heads, frames], float32 (or float64)."""
        logits = self.lr_proj(hidden)
        rates = F.softplus(logits if logits.dtype == torch.float64 else logits.float())
        rates = rates.unflatten(-1, (3, self.num_heads)).permute(2, 0, 3, 1)
        return rates * frame_mask[:, None, :]

    def forward(
        self,
        hidden: Tensor,
        frame_mask: Tensor,
        fast_weights: FastWeights | None = None,
        first_order: bool = False,
    ) -> Tensor:
        """Update the fast weights on the utterance and read them at every frame.

        Args:
            hidden: [batch, frames, hidden].
            frame_mask: bool [batch, frames], True = real.
            fast_weights: weights to start from instead of the learned ones, one set per utterance.
            first_order: take the update for a constant where gradients are wanted, which makes them cheaper.

        Returns:
            [batch, frames, hidden].
        """
        queries = to_unit_length(split_heads(F.silu(self.q_proj(hidden)), self.num_heads))
        updated = self.learn(hidden, frame_mask, fast_weights, first_order)
        answers = apply_fast_weights(updated, queries, self.chunk_size)
        return self.out_proj(merge_heads(self.output_norm(answers.to(self.output_norm.weight.dtype))))

    def learn(
        self,
        hidden: Tensor,
        frame_mask: Tensor,
        fast_weights: FastWeights | None = None,
        first_order: bool = False,
    ) -> FastWeights:
        """The fast weights after their step on the utterance; see `forward`."""
        keys = to_unit_length(split_heads(F.silu(self.k_proj(hidden)), self.num_heads))
        values = split_heads(F.silu(self.v_proj(hidden)), self.num_heads)
        return update_fast_weights(
            fast_weights if fast_weights is not None else self.initial_fast_weights(),
            keys,
            values,
            self.learning_rates(hidden, frame_mask),
            muon=self.muon,
            schedule=self.schedule,
            chunk_size=self.chunk_size,
            first_order=first_order,
        )


def inverse_softplus(value: float) -> float:
    """The x for which softplus(x) = value > 0."""
    return value + math.log(-math.expm1(-value))
