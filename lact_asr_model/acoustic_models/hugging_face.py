"""Any CTC model of `transformers` as an `AcousticModel`: wav2vec2, HuBERT, WavLM and their kin, one by one."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel, normalize_recordings
from lact_asr_model.acoustic_models.functional import FunctionalSpeech, Layout, frozen_copy
from lact_asr_model.acoustic_models.hybrid import peer_groups
from lact_asr_model.acoustic_models.vocabulary import vocabulary_of
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.protocol import Speech, WeightGroup
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.checkpoint_io import without_progress_bar
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, SequenceFeatureExtractor

_BLOCK = re.compile(r"\bencoder\.layers\.(\d+)\.")
_ATTENTION = re.compile(r"\.(?:[qkv]_proj|out_proj|linear_[qkv]|linear_out)\.weight$")


class HuggingFaceAcousticModel(AcousticModel):
    """See `AcousticModel`. Every recording is recognised by itself: with most of these models padding changes the text.

    Args:
        model: with a CTC head; shared, never changed.
        feature_extractor, tokenizer: of the model.
        folder: see `AcousticModel`.

    Raises:
        UserError: the model has no CTC head named `lm_head`, does not take audio at 16 kHz, names no blank, or the
            feature extractor or the tokenizer is that of another kind.
    """

    is_batched = False
    newton_schulz_schedule = "muon"

    def __init__(
        self,
        model: "PreTrainedModel",
        feature_extractor: "SequenceFeatureExtractor",
        tokenizer: "PreTrainedTokenizerBase",
        folder: Path | None = None,
    ) -> None:
        name = _name_of(model)
        _check_kind(model, feature_extractor, name)
        config = model.config
        rate_hz = feature_extractor.sampling_rate
        if rate_hz != SAMPLING_RATE:
            raise UserError(f"{name}: takes audio at {rate_hz} Hz; give a model for {SAMPLING_RATE} Hz")
        if config.pad_token_id is None:
            raise UserError(f"{name}: its config names no pad_token_id, which is the blank; add it")
        self.model = frozen_copy(model)
        self.feature_extractor = feature_extractor
        self.folder = folder
        self.blank_id = config.pad_token_id
        symbols = vocabulary_of(tokenizer, config.pad_token_id)
        num_outputs = config.vocab_size  # some checkpoints have more, and some fewer, than their tokenizer has symbols
        self.vocabulary = symbols[:num_outputs] + ["<unused>"] * (num_outputs - len(symbols))
        self.sampling_rate = rate_hz
        self._takes_samples = model.main_input_name == "input_values"
        adapter_stride = (
            config.adapter_stride**config.num_adapter_layers if getattr(config, "add_adapter", False) else 1
        )
        if self._takes_samples:
            self._samples_per_input = 1
            samples_per_frame = config.inputs_to_logits_ratio
            num_squeezed = getattr(config, "squeeze_factor", 1)  # SEW makes one frame of so many, and as many of it
            self.shortest_samples = _receptive_field_samples(config) + (num_squeezed - 1) * samples_per_frame
        else:  # filter banks of 25 ms every 10 ms, in pairs
            self._samples_per_input = samples_per_frame = rate_hz // 100 * feature_extractor.stride
            self.shortest_samples = rate_hz // 100 * (feature_extractor.stride - 1) + rate_hz // 40
        self.frame_seconds = samples_per_frame * adapter_stride / rate_hz
        self.default_options = AdaptationOptions(
            loss_type="entropy_mcc",
            steps=2,
            parameters="front_end+norms" if self._conv_layers() else "norms",
            front_end_step=0.01,
            unadapted_share=0.25,
            speed="fast",
        )

    def prepare(self, recordings: Sequence[np.ndarray]) -> dict[str, Tensor]:
        if len(recordings) != 1:
            raise ValueError(f"{len(recordings)} recordings: this model takes one at a time")
        inputs = normalize_recordings(self.feature_extractor, recordings)
        return {self.model.main_input_name: inputs[self.model.main_input_name].to(self.device)}

    def recognize(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = self.model(**inputs).logits
        return logits, torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)

    def weight_groups(self) -> dict[str, WeightGroup]:
        """front_end (conv filters), where there is a conv encoder, attention, norms, and suta."""
        attention: dict[int, dict[str, Tensor]] = {}
        for name, weight in self.model.named_parameters():
            block = _BLOCK.search(name)
            if block is not None and _ATTENTION.search(name):
                attention.setdefault(int(block[1]), {})[name] = weight
        base = self.model.base_model_prefix
        conv_layers = self._conv_layers()
        filters = [{f"{name}.conv.weight": self._module(name).conv.weight} for name in conv_layers]
        front_end = (f"{base}.feature_extractor.", f"{base}.feature_projection.") if conv_layers else ()
        return {
            **({"front_end": WeightGroup(filters)} if filters else {}),
            "attention": WeightGroup([attention[index] for index in sorted(attention)]),
            **peer_groups(self.model, front_end),
        }

    def listen(self, inputs: Mapping[str, Tensor], names: Collection[str], options: AdaptationOptions) -> Speech:
        if options.exit_layer:
            raise UserError(f"TTT option exit_layer is {options.exit_layer}; this model has its last head only, give 0")
        name = self.model.main_input_name
        limit = round(options.max_seconds * self.sampling_rate / self._samples_per_input) or None
        beginning = {key: values[:, :limit] for key, values in inputs.items()}
        length = torch.tensor(beginning[name].shape[1])
        num_frames = max(int(self.model._get_feat_extract_output_lengths(length)), 0)
        return FunctionalSpeech(frozen_copy(self.model), inputs, beginning, num_frames, names, self._layout())

    def _conv_layers(self) -> list[str]:
        """Names of the conv layers' modules, in order."""
        encoder = getattr(self.model.base_model, "feature_extractor", None)
        prefix = f"{self.model.base_model_prefix}.feature_extractor.conv_layers"
        return [f"{prefix}.{index}" for index in range(len(getattr(encoder, "conv_layers", ())))]

    def _layout(self) -> Layout:
        """What the model runs first."""
        names = [name for name, _ in self.model.named_modules()]
        blocks = [name for name in names if re.search(f"{_BLOCK.pattern}$", f"{name}.")]
        positions = [name for name in names if name.endswith("encoder.pos_conv_embed")]
        return Layout(self._conv_layers(), positions, blocks)

    def _module(self, name: str) -> Any:
        return self.model.get_submodule(name)


def load_hugging_face(name: str, language: str | None = None) -> HuggingFaceAcousticModel:
    """A CTC model from a folder or the hub, in float32.

    Args:
        name: folder or hub id.
        language: code of the adapter to use, such as "deu" for MMS; None = the one that the checkpoint is set to.

    Raises:
        UserError: the checkpoint is incomplete, is not a trained CTC model, or has no such language.
    """
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    folder = Path(name) if Path(name).is_dir() else None
    choice = {} if language is None else {"target_lang": language}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **choice)
        feature_extractor = AutoFeatureExtractor.from_pretrained(name)
        sizes = {"ignore_mismatched_sizes": True} if language is not None else {}
        with nullcontext() if folder is None else without_progress_bar():
            model, found = AutoModelForCTC.from_pretrained(
                name, dtype="float32", output_loading_info=True, **choice, **sizes
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        if language is not None:
            raise UserError(
                f"checkpoint {name}: has no language {language} ({reason}); give one of its adapters, or none"
            ) from None
        raise UserError(
            f"checkpoint {name}: cannot be loaded as a CTC model ({reason}); give a complete folder or a hub id"
        ) from None
    untrained = {*found["missing_keys"], *(weight for weight, *_ in found["mismatched_keys"])}
    untrained &= {weight for weight, _ in model.named_parameters() if not weight.endswith("masked_spec_embed")}
    if language is not None:
        untrained -= model._get_adapters().keys()  # which came from a file of their own
    if untrained:
        raise UserError(
            f"checkpoint {name}: has no trained {min(untrained)}; give one that is fine-tuned for CTC and saved whole"
        )
    return HuggingFaceAcousticModel(model.eval(), feature_extractor, tokenizer, folder)


def _name_of(model: Any) -> str:
    path = getattr(model, "name_or_path", None)
    return f"checkpoint {path}" if path else f"model {type(model).__name__}"


def _check_kind(model: Any, feature_extractor: Any, name: str) -> None:
    kind = getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__
    if not hasattr(model, "lm_head"):
        raise UserError(f"{name}: has no head lm_head; load it with AutoModelForCTC, or give another than {kind}")
    is_known = model.main_input_name == "input_values" or hasattr(feature_extractor, "stride")
    if not is_known or model.main_input_name not in feature_extractor.model_input_names:
        raise UserError(f"{name}: its {type(feature_extractor).__name__} is not one for {kind}; give another")


def _receptive_field_samples(config: Any) -> int:
    field, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field
