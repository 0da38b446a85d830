"""Our own model as an `AcousticModel`: batches, and nothing computed twice that the moving weights do not touch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel, normalize_recordings
from lact_asr_model.acoustic_models.compiled import CompiledRecognition
from lact_asr_model.acoustic_models.functional import FunctionalSpeech, frozen_copy
from lact_asr_model.acoustic_models.vocabulary import vocabulary_of
from lact_asr_model.adaptation.options import AdaptationOptions, options_from_config
from lact_asr_model.adaptation.protocol import Speech, WeightGroup, Weights
from lact_asr_model.errors import UserError
from lact_asr_model.hybrid_network import HybridNetwork, last_state
from lact_asr_model.wav2vec2_encoder import Wav2Vec2ConvEncoder

if TYPE_CHECKING:
    from transformers import Wav2Vec2Processor

    from lact_asr_model.checkpoint_io import Processor


class HybridAcousticModel(AcousticModel):
    """See `AcousticModel`. Where `model` is to be trained through the adaptation, it must be in evaluation mode.

    Args:
        model: shared, never changed; `frozen_copy` of it saves the memory of gradients that nobody wants.
        processor: feature extractor and tokenizer.
        folder: see `AcousticModel`.
    """

    is_batched = True

    def __init__(
        self, model: HybridNetwork, processor: "Processor | Wav2Vec2Processor", folder: Path | None = None
    ) -> None:
        config = model.config
        self.model = model
        self.processor = processor
        self.feature_extractor = processor.feature_extractor
        self.folder = folder
        self.vocabulary = vocabulary_of(processor.tokenizer, config.pad_token_id)
        self.blank_id = config.pad_token_id
        self.newton_schulz_schedule = config.newton_schulz_schedule
        self.sampling_rate = config.sampling_rate
        self.frame_seconds = config.frame_seconds
        self.shortest_samples = config.receptive_field_samples
        self.default_options = options_from_config(config)

    def prepare(self, recordings: Sequence[np.ndarray]) -> dict[str, Tensor]:
        inputs = normalize_recordings(self.feature_extractor, recordings)
        return {name: values.to(self.device) for name, values in inputs.items()}

    def recognize(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.model.recognize(inputs["input_values"], inputs.get("attention_mask"))

    def compiled(self, batch_size: int) -> CompiledRecognition:
        return CompiledRecognition(self.model, batch_size)

    def weight_groups(self) -> dict[str, WeightGroup]:
        """fast_weights and front_end, for whole batches; norms, attention and suta, for one utterance at a time."""
        scales = self.model.step_scales()
        encoder = ("encoder.", "feature_projection.")
        attention = {name: weight for name, weight in self.model.hidden_matrices().items() if ".attention." in name}
        return {
            "fast_weights": WeightGroup(self.model.fast_weights(), keeps_column_norms=True, step_scales=scales),
            "front_end": WeightGroup(self.model.front_end_weights(), step_scales=scales),
            **peer_groups(self.model, encoder if self.model.front_end_weights() else ()),
            "attention": WeightGroup(
                [
                    {name: weight for name, weight in attention.items() if name.startswith(f"layers.{index}.")}
                    for index in range(self.model.config.num_hidden_layers)
                ]
            ),
        }

    def listen(self, inputs: Mapping[str, Tensor], names: Collection[str], options: AdaptationOptions) -> Speech:
        config, exit_layer = self.model.config, options.exit_layer
        whole = dict(inputs)
        limit = round(options.max_seconds * config.sampling_rate) or whole["input_values"].shape[1]
        beginning = {name: values[:, :limit] for name, values in whole.items()}
        if exit_layer and exit_layer not in config.intermediate_ctc_layers:
            heads = ", ".join(map(str, config.intermediate_ctc_layers)) or "none"
            raise UserError(
                f"TTT option exit_layer is {exit_layer}; the model has intermediate heads after blocks {heads}, and 0 "
                "is its last head"
            )
        conv_layers = [index for index, layer in enumerate(self.model.front_end_weights()) if layer.keys() & names]
        blocks = [index for index, layer in enumerate(self.model.fast_weights()) if layer.keys() & names]
        num_batched = sum(
            len(layer.keys() & names) for layer in self.model.front_end_weights() + self.model.fast_weights()
        )
        if exit_layer and blocks and blocks[-1] >= exit_layer:
            raise UserError(
                f"TTT option exit_layer is {exit_layer}; the steps do not reach block {blocks[-1]}, whose weights are "
                f"to move: give layers 0-{exit_layer - 1}"
            )
        if num_batched == len(names):
            return _HybridSpeech(self.model, whole, beginning, conv_layers, blocks, options)
        if exit_layer:
            raise UserError(f"TTT option exit_layer is {exit_layer}; it goes with front_end and fast_weights only")
        num_frames = config.num_frames(beginning["input_values"].shape[1])
        return FunctionalSpeech(frozen_copy(self.model), whole, beginning, num_frames, names)


def peer_groups(model: nn.Module, front_end_prefixes: tuple[str, ...]) -> dict[str, WeightGroup]:
    """What the published methods move: "norms" is every LayerNorm, "suta" these and the front end."""
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters()
    }
    named = dict(model.named_parameters())
    chosen = {name: weight for name, weight in named.items() if id(weight) in norms}
    groups = {"norms": WeightGroup([chosen])}
    if front_end_prefixes:
        front_end = {name: weight for name, weight in named.items() if name.startswith(front_end_prefixes)}
        groups["suta"] = WeightGroup([{**chosen, **front_end}])
    return groups


class _Stretch:
    """A stretch of audio up to the first weight that moves: what is computed once."""

    def __init__(
        self, model: HybridNetwork, inputs: Mapping[str, Tensor], conv_layers: Sequence[int], blocks: Sequence[int]
    ) -> None:
        self._model = model
        self._encoder = cast("Wav2Vec2ConvEncoder", model.encoder)
        self._input_values, mask = inputs["input_values"], inputs.get("attention_mask")
        self._lengths = None if mask is None else mask.sum(-1)
        is_too_short = self._input_values.shape[1] < model.config.receptive_field_samples
        self._first_conv = None if is_too_short or not conv_layers else conv_layers[0]
        self._first_block = blocks[0] if blocks else model.config.num_hidden_layers
        if self._first_conv is None:
            features, frame_mask = self._encoded = model.encode(self._input_values, mask)
            before_moving = model.run_blocks(features, frame_mask, end=self._first_block)
            self._state = last_state(features, before_moving)
        else:
            hidden = self._input_values[:, None]
            self._before = self._encoder.run_layers(hidden, self._lengths, end=self._first_conv)

    def encode(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """features [batch, frames, hidden] and frame_mask bool [batch, frames]."""
        if self._first_conv is None:
            return self._encoded
        filters = self._model.filters_of(weights)
        frames = self._encoder.run_layers(self._before, self._lengths, filters, first=self._first_conv)
        return self._model.project(frames.mT, self._lengths)

    def states(self, weights: Weights, end: int | None = None, first_order: bool = False) -> tuple[Tensor, Tensor]:
        """The state [batch, frames, hidden] after the blocks up to, without it, `end`, and the frame mask."""
        first = self._first_block if self._first_conv is None else 0
        features, frame_mask = self.encode(weights)
        hidden = self._state if self._first_conv is None else features
        blocks = self._model.run_blocks(hidden, frame_mask, weights, first=first, end=end, first_order=first_order)
        return last_state(hidden, blocks), frame_mask


@dataclass(frozen=True, eq=False)
class _Heard:
    """See `adaptation.protocol.Heard`. state: [batch, frames, hidden], at the head that the logits come from."""

    model: HybridNetwork
    logits: Tensor
    state: Tensor
    frame_mask: Tensor
    weights: Weights
    exit_layer: int

    def answer(self) -> Tensor:
        if not self.exit_layer:
            return self.logits.detach()
        with torch.no_grad():
            blocks = self.model.run_blocks(self.state.detach(), self.frame_mask, self.weights, first=self.exit_layer)
            hidden = last_state(self.state.detach(), blocks)
            return self.model.classify(self.model.final_norm(hidden), self.frame_mask)


class _HybridSpeech:
    """See `adaptation.protocol.Speech`."""

    def __init__(
        self,
        model: HybridNetwork,
        whole: Mapping[str, Tensor],
        beginning: Mapping[str, Tensor],
        conv_layers: Sequence[int],
        blocks: Sequence[int],
        options: AdaptationOptions,
    ) -> None:
        self._model = model
        self._exit_layer = options.exit_layer
        self._first_order = options.speed == "fast"
        self.is_cut = beginning["input_values"].shape[1] < whole["input_values"].shape[1]
        self._beginning = _Stretch(model, beginning, conv_layers, blocks)
        self._make_whole = partial(_Stretch, model, whole, conv_layers, blocks)
        self.frame_mask = self._frame_mask(beginning)

    @cached_property
    def _whole(self) -> _Stretch:
        return self._make_whole() if self.is_cut else self._beginning

    def _frame_mask(self, inputs: Mapping[str, Tensor]) -> Tensor:
        samples, mask = inputs["input_values"], inputs.get("attention_mask")
        num_frames = self._model.config.num_frames(samples.shape[1])
        frames = torch.arange(num_frames, device=samples.device)
        if mask is None:
            return torch.ones(len(samples), num_frames, dtype=torch.bool, device=samples.device)
        return frames < self._model.frame_lengths(mask)[:, None]

    def hear(self, weights: Weights) -> _Heard:
        state, frame_mask = self._beginning.states(weights, self._exit_layer or None, self._first_order)
        if self._exit_layer:
            logits = self._model.classify_at(state, frame_mask, self._exit_layer)
        else:
            logits = self._model.classify(self._model.final_norm(state), frame_mask)
        return _Heard(self._model, logits, state, frame_mask, weights, self._exit_layer)

    def predict_masked(self, weights: Weights, span_mask: Tensor) -> Tensor:
        if self._exit_layer:
            raise UserError(
                f"TTT option exit_layer is {self._exit_layer}; masked prediction needs all blocks, use loss_type "
                "'entropy_mcc' or exit_layer 0"
            )
        features, frame_mask = self._beginning.encode(weights)
        hidden = self._model.run_stack(features, frame_mask, span_mask, weights)
        return self._model.masked_prediction_loss(hidden, features, span_mask)

    def recognize(self, weights: Weights) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            state, frame_mask = self._whole.states(weights)
            return self._model.classify(self._model.final_norm(state), frame_mask), frame_mask
