"""The network of the hybrid recogniser: conv encoder, a stack of LaCT blocks, CTC and masked-prediction heads.

It is a plain module, so that recognition needs no more of `transformers` than its configurations and feature
extractors: importing its base class of models takes longer than importing torch. `HybridASRForCTC` adds that class.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from lact_asr_model.activations import activation
from lact_asr_model.configuration_hybrid_asr import MOONSHINE, HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.lact_layer import FastWeightMemory, WindowedAttention
from lact_asr_model.log_mel_encoder import LogMelEncoder
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.ops.masks import length_mask, sample_span_mask
from lact_asr_model.wav2vec2_encoder import Wav2Vec2ConvEncoder

_PADDED_LOGIT = -1e4
_FILTERS = "encoder.conv_layers.{}.conv.weight"

Weights = Mapping[str, Tensor]  # by parameter name, each with a leading dimension of one copy per utterance


@dataclass
class HybridASROutput(ModelOutput):
    """Output of `HybridNetwork` and `HybridASRForCTC`.

    loss: scalar, with labels. logits: [batch, frames, vocabulary]. ctc_loss, intermediate_ctc_loss (mean over the
    intermediate heads), masked_prediction_loss: its terms, the last in training mode only. hidden_states: (last hidden
    state [batch, frames, hidden],) when asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    ctc_loss: Tensor | None = None
    intermediate_ctc_loss: Tensor | None = None
    masked_prediction_loss: Tensor | None = None


class FeatureProjection(nn.Module):
    """LayerNorm and projection of the encoder's frames to the stack's hidden size (names as in `transformers`)."""

    def __init__(self, config: HybridASRConfig, input_size: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(input_size, eps=config.layer_norm_eps)
        self.projection = nn.Linear(input_size, config.hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """[batch, frames, input_size] to [batch, frames, hidden]."""
        return self.projection(self.layer_norm(frames))


def build_feature_projection(config: HybridASRConfig, input_size: int) -> nn.Module:
    """What is between encoder and stack: nothing behind Moonshine's stem, whose frames are what its layers read."""
    if config.use_wav2vec2_encoder and config.encoder_type == MOONSHINE:
        return nn.Identity()
    return FeatureProjection(config, input_size)


def build_encoder(config: HybridASRConfig) -> Wav2Vec2ConvEncoder | LogMelEncoder:
    """The front end that `use_wav2vec2_encoder` asks for; both make one frame per `samples_per_frame` samples."""
    return Wav2Vec2ConvEncoder(config) if config.use_wav2vec2_encoder else LogMelEncoder(config)


class LactBlock(nn.Module):
    """LayerNorm and windowed attention, LayerNorm and layer memory, LayerNorm and feed-forward; three residuals.

    `gradient_checkpointing_enable` of `transformers` sets `gradient_checkpointing` and the function that does it.
    """

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = WindowedAttention(config)
        self.memory_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.memory = FastWeightMemory(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            activation(config.hidden_act),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )
        self.dropout = nn.Dropout(config.hidden_dropout)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`forward`, and once more instead of keeping activations, in training with gradient checkpointing."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(partial(super().__call__, **options), *arguments)
        return super().__call__(*arguments, **options)

    def forward(
        self,
        hidden: Tensor,
        frame_mask: Tensor,
        fast_weights: FastWeights | None = None,
        first_order: bool = False,
    ) -> Tensor:
        """hidden [batch, frames, hidden] to the same; the other arguments as in `FastWeightMemory.forward`."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), frame_mask))
        hidden = hidden + self.dropout(self.memory(self.memory_norm(hidden), frame_mask, fast_weights, first_order))
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class CTCHead(nn.Module):
    """LayerNorm and a linear layer: the CTC head after one of the blocks before the last."""

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states of the block [batch, frames, hidden] to logits [batch, frames, vocabulary]."""
        return self.output(self.norm(hidden))


class HybridNetwork(nn.Module):
    """Speech recogniser with a layer memory in every forward pass and weights that can be adapted to an utterance.

    Weights that an utterance has of its own travel as arguments, a dict from parameter names to [batch, ...]: of conv
    filters (`front_end_weights`) and of initial fast weights (`fast_weights`). The model itself never changes, so it
    can serve several threads. Padding and the other utterances of a batch never change an utterance's output.

    Its parameters are without values that mean anything until a checkpoint fills them.
    """

    config: HybridASRConfig
    main_input_name = "input_values"

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.config = config
        self.build(config)

    def build(self, config: HybridASRConfig) -> None:
        """Make the parts; for classes with a constructor of their own."""
        self.encoder = build_encoder(config)
        self.feature_projection = build_feature_projection(config, self.encoder.output_size)
        self.feature_dropout = nn.Dropout(config.feat_proj_dropout)
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        self.layers = nn.ModuleList(LactBlock(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.masked_prediction_head = nn.Linear(config.hidden_size, config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.intermediate_heads = nn.ModuleDict(
            {str(block): CTCHead(config) for block in config.intermediate_ctc_layers}
        )
        self.fast_weight_log_step_scales = nn.Parameter(torch.empty(config.num_hidden_layers), requires_grad=False)
        self.front_end_log_step_scales = nn.Parameter(torch.empty(len(self.front_end_weights())), requires_grad=False)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.lm_head.weight.device

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        weights: Weights | None = None,
    ) -> HybridASROutput | tuple[Tensor, ...]:
        """Logits of every frame and, with labels, the training loss.

        In training mode spans of the stack's input are masked, and the CTC and the masked-prediction loss come from
        that one pass; in evaluation mode nothing is masked and the loss is CTC's alone.

        Args:
            input_values: [batch, samples], normalised audio at `config.sampling_rate`.
            attention_mask: [batch, samples], 1 at true samples (padding on the right); None = all true.
            labels: [batch, length] token ids, padded with -100.
            weights: of each utterance's own, by name [batch, ...]; None = the learned ones.

        Raises:
            ValueError: a name among `weights` is that of no conv filter and no fast weight.
        """
        unknown = set(weights or ()) - {
            name for layer in self.front_end_weights() + self.fast_weights() for name in layer
        }
        if unknown:
            raise ValueError(f"weights: {min(unknown)} is no conv filter and no fast weight")
        features, frame_mask = self.encode(input_values, attention_mask, weights)
        span_mask = self._sample_training_spans(frame_mask) if self.training else None
        states: dict[int, Tensor] = {}
        start = hidden = self.start_stack(features, span_mask)
        for num_blocks, hidden in enumerate(self.run_blocks(start, frame_mask, weights), start=1):
            if num_blocks in self.config.intermediate_ctc_layers:
                states[num_blocks] = hidden
        hidden = self.final_norm(hidden)
        logits = self.classify(hidden, frame_mask)

        loss = ctc_loss = intermediate_ctc_loss = masked_prediction_loss = None
        if labels is not None:
            loss = ctc_loss = self.ctc_loss(logits, frame_mask, labels)
            if self.intermediate_heads:
                losses = [
                    self.ctc_loss(self.classify_at(states[block], frame_mask, block), frame_mask, labels)
                    for block in self.config.intermediate_ctc_layers
                ]
                intermediate_ctc_loss = torch.stack(losses).mean()
                loss = torch.lerp(ctc_loss, intermediate_ctc_loss, self.config.intermediate_ctc_weight)
        if span_mask is not None:
            per_utterance = self.masked_prediction_loss(hidden, features, span_mask)
            masked_prediction_loss = per_utterance.mean()
            weighted = self.config.masked_prediction_weight * masked_prediction_loss
            loss = weighted if loss is None else loss + weighted

        output = HybridASROutput(
            loss=loss,
            logits=logits,
            hidden_states=(hidden,) if output_hidden_states else None,
            ctc_loss=ctc_loss,
            intermediate_ctc_loss=intermediate_ctc_loss,
            masked_prediction_loss=masked_prediction_loss,
        )
        return output.to_tuple() if return_dict is False else output

    def recognize(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of every frame [batch, frames, vocabulary] and frame_mask bool [batch, frames]; see `forward`."""
        features, frame_mask = self.encode(input_values, attention_mask)
        return self.classify(self.run_stack(features, frame_mask), frame_mask), frame_mask

    def encode(
        self, input_values: Tensor, attention_mask: Tensor | None = None, weights: Weights | None = None
    ) -> tuple[Tensor, Tensor]:
        """Front end and projection: features [batch, frames, hidden] and frame_mask bool [batch, frames].

        Args: as in `forward`.
        """
        lengths = None if attention_mask is None else attention_mask.sum(-1)
        if input_values.shape[1] < self.config.receptive_field_samples:
            return self.project(input_values.new_zeros(len(input_values), 0, self.encoder.output_size), lengths)
        filters = self.filters_of(weights)
        if filters:
            frames = cast("Wav2Vec2ConvEncoder", self.encoder).run_layers(input_values[:, None], lengths, filters).mT
        else:
            frames = self.encoder(input_values, lengths)
        return self.project(frames, lengths)

    def project(self, frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the stack takes, from the encoder's frames [batch, frames, size] and the lengths in samples [batch]."""
        features = self.feature_projection(frames)
        if lengths is None:
            return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        frame_mask = length_mask(self.config.num_frames(lengths), features.shape[1])
        return features.masked_fill(~frame_mask[..., None], 0), frame_mask

    def run_stack(
        self,
        features: Tensor,
        frame_mask: Tensor,
        span_mask: Tensor | None = None,
        weights: Weights | None = None,
        num_blocks: int | None = None,
    ) -> Tensor:
        """The LaCT blocks; all of them and the final norm, or the first `num_blocks`.

        Args:
            features: [batch, frames, hidden], as `encode` gives them.
            frame_mask: bool [batch, frames], True = real.
            span_mask: bool [batch, frames], True = replaced by the learned mask vector.
            weights: of each utterance's own, as in `forward`.
            num_blocks: end after so many blocks, for `classify_at`; None = the whole stack, for `classify`.

        Returns:
            [batch, frames, hidden].
        """
        hidden = self.start_stack(features, span_mask)
        hidden = last_state(hidden, self.run_blocks(hidden, frame_mask, weights, end=num_blocks))
        return self.final_norm(hidden) if num_blocks is None else hidden

    def start_stack(self, features: Tensor, span_mask: Tensor | None = None) -> Tensor:
        """What the first block takes; arguments as in `run_stack`."""
        hidden = features
        if span_mask is not None:
            hidden = torch.where(span_mask[..., None], self.masked_spec_embed.to(hidden.dtype), hidden)
        return self.feature_dropout(hidden)

    def run_blocks(
        self,
        hidden: Tensor,
        frame_mask: Tensor,
        weights: Weights | None = None,
        first: int = 0,
        end: int | None = None,
        first_order: bool = False,
    ) -> Iterator[Tensor]:
        """The states [batch, frames, hidden] after each block from index `first` up to, without it, `end`.

        With `first_order`, gradients take the memories' updates for constants.
        """
        for index in range(first, self.config.num_hidden_layers if end is None else end):
            if not self.training or torch.rand(()) >= self.config.layerdrop:
                fast_weights = self._fast_weights_of(weights, index)
                hidden = self.layers[index](hidden, frame_mask, fast_weights, first_order)
            yield hidden

    def classify(self, hidden: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """CTC logits [batch, frames, vocabulary]; padded frames say blank, so that they decode to nothing."""
        return self._without_padding(self.lm_head(hidden), frame_mask)

    def classify_at(self, hidden: Tensor, frame_mask: Tensor | None, block: int) -> Tensor:
        """The same by the intermediate head after that many blocks, from the states that `run_stack` gives there.

        Raises:
            KeyError: there is no head after that block.
        """
        return self._without_padding(self.intermediate_heads[str(block)](hidden), frame_mask)

    def _without_padding(self, logits: Tensor, frame_mask: Tensor | None) -> Tensor:
        if frame_mask is None:
            return logits
        padded = torch.full_like(logits[:1, :1], _PADDED_LOGIT)
        padded[..., self.config.pad_token_id] = 0
        return torch.where(frame_mask[..., None], logits, padded)

    def masked_prediction_loss(self, hidden: Tensor, features: Tensor, span_mask: Tensor) -> Tensor:
        """How well the stack predicts the features that it could not see.

        Mean squared error between the trained head's prediction and the layer-normalised features (no gradient to
        them), over hidden size and masked frames; 0 for an utterance without masked frames. Shapes as in `run_stack`;
        returns [batch].
        """
        dtype = torch.promote_types(features.dtype, torch.float32)
        target = F.layer_norm(features.detach().to(dtype), features.shape[-1:])
        error = (self.masked_prediction_head(hidden).to(dtype) - target).square().mean(-1)
        return error.masked_fill(~span_mask, 0).sum(-1) / span_mask.sum(-1).clamp(min=1)

    def fast_weights(self) -> list[dict[str, Tensor]]:
        """The learned initial fast weights of every block [heads, rows, columns], by name."""
        names = FastWeights._fields
        return [
            {f"layers.{index}.memory.{name}": getattr(block.memory, name) for name in names}
            for index, block in enumerate(cast("list[LactBlock]", list(self.layers)))
        ]

    def front_end_weights(self) -> list[dict[str, Tensor]]:
        """The learned filters [out, in, kernel] of every conv layer, by name; none in a log-mel front end."""
        if not isinstance(self.encoder, Wav2Vec2ConvEncoder):
            return []
        return [
            {_FILTERS.format(index): cast("nn.Conv1d", layer.conv).weight}
            for index, layer in enumerate(self.encoder.conv_layers)
        ]

    def filters_of(self, weights: Weights | None) -> dict[int, Tensor]:
        """The conv filters among `weights`, by the index of their layer."""
        names = enumerate(name for layer in self.front_end_weights() for name in layer)
        return {index: weights[name] for index, name in names if name in weights} if weights else {}

    def _fast_weights_of(self, weights: Weights | None, index: int) -> FastWeights | None:
        """The fast weights that the block starts from, if any of them is among `weights`."""
        prefix = f"layers.{index}.memory."
        if not weights or not any(name.startswith(prefix) for name in weights):
            return None
        learned = cast("LactBlock", self.layers[index]).memory.initial_fast_weights()._asdict()
        return FastWeights(**{name: weights.get(prefix + name, own) for name, own in learned.items()})

    def learn_step_scales(self, parameters: str) -> None:
        """Let training learn how far adaptation moves each layer of "fast_weights", "front_end" or "both"."""
        self.fast_weight_log_step_scales.requires_grad_(parameters != "front_end")
        self.front_end_log_step_scales.requires_grad_(parameters != "fast_weights")

    def step_scales(self) -> dict[str, Tensor]:
        """Learned factors of adaptation's steps by the names of the weights that move; 1 if never trained."""
        fast_weights, front_end = self.fast_weights(), self.front_end_weights()
        pairs = [
            *zip(fast_weights, self.fast_weight_log_step_scales.exp(), strict=True),
            *zip(front_end, self.front_end_log_step_scales.exp(), strict=True),
        ]
        return {name: scale for layer, scale in pairs for name in layer}

    def frame_lengths(self, attention_mask: Tensor) -> Tensor:
        """True frames of every utterance: attention_mask [batch, samples] to [batch]."""
        return self.config.num_frames(attention_mask.sum(-1))

    def freeze_feature_encoder(self) -> None:
        """Keep the conv encoder's weights fixed from now on, as the method of this name does in `transformers`."""
        self.encoder.requires_grad_(False)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of the conv encoder, which learn at `encoder_lr_scale`."""
        return list(self.encoder.parameters())

    def hidden_matrices(self) -> dict[str, Tensor]:
        """Weights of the linear layers inside the blocks by name, but for those that make the memory's rates."""
        return {
            f"layers.{name}.weight": module.weight
            for name, module in self.layers.named_modules()
            if isinstance(module, nn.Linear) and not name.endswith("lr_proj")
        }

    def step_scale_parameters(self) -> list[nn.Parameter]:
        """Logarithms of the learned factors of adaptation's steps; they have a learning rate of their own."""
        return [self.fast_weight_log_step_scales, self.front_end_log_step_scales]

    def other_parameters(self) -> list[nn.Parameter]:
        """All parameters behind the conv encoder, but for the step scales."""
        taken = {id(parameter) for parameter in self.encoder_parameters() + self.step_scale_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in taken]

    def load_pretrained_encoder(self, name_or_path: str) -> None:
        """Take the conv encoder of a wav2vec2, HuBERT or data2vec-audio checkpoint.

        Raises:
            UserError: the checkpoint cannot be used, or the model has no conv encoder.
        """
        if not isinstance(self.encoder, Wav2Vec2ConvEncoder):
            raise UserError(
                f"pretrained encoder {name_or_path}: the log-mel front end has no weights; "
                "set use_wav2vec2_encoder to true"
            )
        self.encoder.load_pretrained(name_or_path)

    def _sample_training_spans(self, frame_mask: Tensor) -> Tensor:
        seeds = torch.randint(2**31, (len(frame_mask),)).tolist()
        num_frames = frame_mask.sum(-1).tolist()
        spans = sample_span_mask(
            num_frames, frame_mask.shape[1], self.config.mask_prob, self.config.mask_span_frames, seeds
        )
        return spans.to(frame_mask.device)

    def ctc_loss(self, logits: Tensor, frame_mask: Tensor, labels: Tensor) -> Tensor:
        """CTC loss per target character, mean over the batch; 0 where the audio is too short for any frame."""
        if logits.shape[1] == 0:
            return logits.sum()
        log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
        return F.ctc_loss(
            log_probs,
            labels.clamp(min=0),
            frame_mask.sum(-1),
            (labels >= 0).sum(-1),
            blank=self.config.pad_token_id,
            reduction="mean",
            zero_infinity=True,
        )


def last_state(state: Tensor, later_states: Iterable[Tensor]) -> Tensor:
    """The last of the states that `run_blocks` gives, or the one before them if there are none."""
    return deque(chain([state], later_states), maxlen=1).pop()


def count_parameters(model: HybridNetwork) -> dict[str, float]:
    """Parameters by part; `adapter` is the fast weights with their own query, key and value projections."""

    def count(*names: str) -> int:
        return sum(p.numel() for name, p in model.named_parameters() if any(part in name for part in names))

    total = count("")
    fast_weights = count("memory.w0", "memory.w1", "memory.w2")
    return {
        "total": total,
        "encoder": count("encoder.", "feature_projection."),
        "attention": count("attention.", "attention_norm."),
        "feed_forward": count("feed_forward"),
        "fast_weights": fast_weights,
        "adapter": fast_weights + count("memory.q_proj", "memory.k_proj", "memory.v_proj"),
        "fast_weight_share": fast_weights / total,
    }
