"""Configuration of the hybrid LaCT + wav2vec2 recogniser, and the geometry of its frames."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from transformers import PretrainedConfig

from lact_asr_model.activations import activation, activation_names
from lact_asr_model.adaptation.options import check_option, model_options, parse_layers
from lact_asr_model.errors import UserError

MOONSHINE = "moonshine"
NEWTON_SCHULZ_SCHEDULES = ("muon", "polar_express")
_SAMPLING_RATE = 16000  # of all that is read

Count = TypeVar("Count")  # int or integer tensor


class HybridASRConfig(PretrainedConfig):
    """Every hyperparameter of `HybridASRForCTC`; the defaults are the full-size model.

    Three learning rates are kept apart: `fast_weight_lr_init` (layer memory, in every forward pass),
    `ttt_learning_rate` (adaptation to one utterance at inference) and `--peak_lr` (training; not a model field).

    Encoder
        use_wav2vec2_encoder: conv encoder; False gives a log-mel front end at the same frame rate.
        encoder_type: "wav2vec2", or "moonshine" for Moonshine's conv stem, of three layers.
        wav2vec2_model_name: hub id or folder of the wav2vec2, HuBERT or data2vec-audio checkpoint to start from.
        encoder_target_ds_factor: frame period in steps of 40 samples; 5 is 12.5 ms, 8 is wav2vec2's own 20 ms (in steps
            of 64 samples for Moonshine's stem, whose own 24 ms are 6).
        freeze_encoder: keep the conv encoder's weights fixed in training.
        encoder_lr_scale: learning rate of the conv encoder relative to the rest.
        conv_dim, conv_kernel, conv_stride, conv_bias, feat_extract_norm, feat_extract_activation: as in wav2vec2;
        num_mel_bins: size of the log-mel front end's features.
    Transformer
        num_hidden_layers, hidden_size, intermediate_size, num_attn_heads: the usual; any divisor of hidden_size
            with an even quotient is a valid number of heads.
        window_size: frames that one frame attends to, itself included: at most window_size // 2 to either side.
        rope_theta, partial_rotary_factor: base of the rotary positions, and the share of each head's dimensions that
            they turn.
        hidden_dropout, attention_dropout, feat_proj_dropout, layerdrop: probabilities.
        gradient_checkpointing is switched on with `model.gradient_checkpointing_enable()`.
    Layer memory (fast weights)
        num_lact_heads: fast-weight heads. lact_hidden_size: hidden size of each head's SwiGLU.
        fast_weight_lr_init: initial per-token learning rate, softplus(bias).
        fast_weight_muon: orthogonalise the update with Newton-Schulz; False is a plain gradient step.
        newton_schulz_schedule: "muon" or "polar_express". lact_chunk_size: frames held at once while the update is
            summed (memory only; the result is the same).
    Training
        mask_prob, mask_span_frames: share and span of the frames masked at the stack's input in training.
        masked_prediction_weight: weight of the masked-prediction loss beside the CTC loss.
        intermediate_ctc_layers: numbers (from 1) of the blocks after which there is a CTC head, too (Lee & Watanabe
            2021, arXiv:2102.03216); adaptation can end there. intermediate_ctc_weight: share of the mean of their
            losses in the CTC loss, the last head's has the rest.
    Adaptation (TTT)
        enable_ttt: adapt to every recording unless told otherwise.
        ttt_...: defaults of the options of the same names in `adaptation.options.AdaptationOptions`.
    """

    model_type = "hybrid_asr"
    attribute_map = {"num_attention_heads": "num_attn_heads"}  # noqa: RUF012 (annotated, it would become a field)

    vocab_size: int = 30
    pad_token_id: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    sampling_rate: int = _SAMPLING_RATE

    use_wav2vec2_encoder: bool = True
    encoder_type: str = "wav2vec2"
    wav2vec2_model_name: str | None = "facebook/wav2vec2-base"
    encoder_target_ds_factor: int = 5
    freeze_encoder: bool = False
    encoder_lr_scale: float = 0.1
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    num_mel_bins: int = 80

    num_hidden_layers: int = 16
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attn_heads: int = 8
    window_size: int = 256
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 1.0
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.1
    layerdrop: float = 0.05
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    num_lact_heads: int = 4
    lact_hidden_size: int = 1536
    lact_chunk_size: int = 2048
    fast_weight_lr_init: float = 0.01
    fast_weight_muon: bool = True
    newton_schulz_schedule: str = "muon"

    mask_prob: float = 0.15
    mask_span_frames: int = 10
    masked_prediction_weight: float = 0.1
    intermediate_ctc_layers: list[int] | tuple[int, ...] = ()
    intermediate_ctc_weight: float = 0.3

    enable_ttt: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for option in model_options():
            setattr(self, _TTT + option.name, kwargs.pop(_TTT + option.name, option.default))
        self._read_old_names(kwargs)
        self._validate()
        super().__post_init__(**kwargs)

    def _read_old_names(self, kwargs: dict[str, Any]) -> None:
        """Configurations of version 0.1 name Moonshine's stem as a norm, and a gate and a loss that are gone."""
        if self.feat_extract_norm == MOONSHINE:
            self.encoder_type, self.feat_extract_norm = MOONSHINE, "group"
        kwargs.pop("ttt_accept", None)
        if getattr(self, "ttt_loss_type") == "consistency":  # noqa: B009
            self.ttt_loss_type = "entropy_mcc"

    @classmethod
    def from_file(cls, path: str | Path) -> "HybridASRConfig":
        """Read a JSON file written by a person: unlike `from_pretrained`, an unknown field is an error."""
        path = Path(path)
        try:
            fields = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"config {path}: cannot be read ({error.strerror}); give the path of a JSON file") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"config {path}: not valid JSON ({error}); see configs/hybrid_asr_config.json") from None
        if not isinstance(fields, dict):
            raise UserError(f"config {path}: holds a {type(fields).__name__}; it must be one JSON object")
        known = {*cls().to_dict(), *_FIELDS_OF_SAVED_CONFIGS}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise UserError(f"config {path}: unknown field {unknown[0]!r}; see `HybridASRConfig` for the valid names")
        model_type = fields.pop("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise UserError(f"config {path}: is of model type {model_type!r}; it must be {cls.model_type!r}")
        return cls(**fields)

    @classmethod
    def own_fields(cls) -> dict[str, Any]:
        """Name and default of every field that this class itself defines, in order."""
        fields = {name: getattr(cls, name) for name in cls.__annotations__ if name in cls.__dict__}
        return fields | {_TTT + option.name: option.default for option in model_options()}

    @property
    def rotary_size(self) -> int:
        """Dimensions of each attention head that carry its position, an even number."""
        return int(self.hidden_size // self.num_attn_heads * self.partial_rotary_factor) // 2 * 2

    @property
    def samples_per_frame(self) -> int:
        """Audio samples from one frame to the next."""
        return self.stem_stride * self.encoder_target_ds_factor

    @property
    def stem_stride(self) -> int:
        """Samples per step of the grid that the layers before the `num_rate_layers` make (40 for wav2vec2)."""
        return math.prod(self.conv_stride[: -self.num_rate_layers])

    @property
    def num_rate_layers(self) -> int:
        """How many of the last conv layers change their strides with the frame rate: three, of Moonshine's stem two."""
        return 2 if self.encoder_type == MOONSHINE else 3

    @property
    def receptive_field_samples(self) -> int:
        """Samples that one frame sees (400 = 25 ms for wav2vec2), whatever the downsampling factor."""
        field, step = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            field += (kernel - 1) * step
            step *= stride
        return field

    @property
    def inputs_to_logits_ratio(self) -> int:
        """The name that `transformers` pipelines use for `samples_per_frame`."""
        return self.samples_per_frame

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.samples_per_frame / self.sampling_rate

    def num_frames(self, num_samples: Count) -> Count:
        """Frames made from `num_samples` samples (an int or an integer tensor); 0 below one receptive field."""
        frames: Any = (num_samples - self.receptive_field_samples) // self.samples_per_frame + 1  # type: ignore[operator]
        return max(frames, 0) if isinstance(frames, int) else frames.clamp(min=0)  # type: ignore[return-value]

    def num_samples(self, num_frames: int) -> int:
        """Smallest number of samples from which `num_frames` frames are made."""
        return self.receptive_field_samples + (num_frames - 1) * self.samples_per_frame if num_frames > 0 else 0

    def _validate(self) -> None:
        for name, default in self.own_fields().items():
            self._validate_type(name, default)
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                self._reject(name, "a number above 0")
        if self.sampling_rate != _SAMPLING_RATE:
            self._reject("sampling_rate", f"{_SAMPLING_RATE} Hz, to which every recording is resampled")
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) < 1:
                self._reject(name, "in [0, 1)")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                self._reject(name, "0 or more")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                self._reject(name, "one of " + ", ".join(choices))
        for name in ("hidden_act", "feat_extract_activation"):
            try:
                activation(getattr(self, name))
            except KeyError:
                self._reject(name, "one of " + ", ".join(activation_names()))
        for name in ("num_attn_heads", "num_lact_heads"):
            if self.hidden_size % getattr(self, name):
                self._reject(name, f"a divisor of hidden_size {self.hidden_size}")
        if self.hidden_size // self.num_attn_heads % 2:
            self._reject("num_attn_heads", f"such that hidden_size {self.hidden_size} / num_attn_heads is even (RoPE)")
        if not 2 <= self.rotary_size <= self.hidden_size // self.num_attn_heads:
            self._reject("partial_rotary_factor", "at most 1, and enough for two dimensions of each attention head")
        self._validate_conv_layers()
        blocks = self.intermediate_ctc_layers
        is_list = isinstance(blocks, (list, tuple)) and all(type(block) is int for block in blocks)
        if not is_list or list(blocks) != sorted({b for b in blocks if 0 < b < self.num_hidden_layers}):
            self._reject("intermediate_ctc_layers", f"a rising list of blocks from 1 to {self.num_hidden_layers - 1}")
        for option in model_options():
            check_option(option, getattr(self, _TTT + option.name), f"config field {_TTT}{option.name}")
        if self.ttt_exit_layer and self.ttt_exit_layer not in blocks:
            self._reject("ttt_exit_layer", "0, or one of intermediate_ctc_layers")
        for name, num_layers in (("ttt_layers", self.num_hidden_layers), ("ttt_conv_layers", len(self.conv_dim))):
            try:
                parse_layers(getattr(self, name), num_layers)
            except ValueError as error:
                self._reject(name, str(error))

        if self.pad_token_id >= self.vocab_size:
            self._reject("pad_token_id", f"below vocab_size {self.vocab_size}: it is the blank")

    def _validate_type(self, name: str, default: Any) -> None:
        """A number must be finite and of its default's kind (an int will do for a float); None only where it is one."""
        value = getattr(self, name)
        if default is None or isinstance(default, (list, tuple)) or (value is None and name in _NULLABLE):
            return
        if isinstance(default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                self._reject(name, "a finite number")
        elif type(value) is not type(default):
            self._reject(name, _KINDS[type(default)])

    def _validate_conv_layers(self) -> None:
        as_moonshine = self.encoder_type == MOONSHINE
        num_layers, rate_strides = (3, [3, 2]) if as_moonshine else (7, [2, 2, 2])
        for name in ("conv_dim", "conv_kernel", "conv_stride"):
            sizes = getattr(self, name)
            valid = isinstance(sizes, (list, tuple)) and all(isinstance(size, int) and size > 0 for size in sizes)
            if not valid or len(sizes) != num_layers:
                self._reject(name, f"a list of {num_layers} whole numbers above 0, one for each conv layer")
        if list(self.conv_stride[-len(rate_strides) :]) != rate_strides:
            strides = ", ".join(map(str, rate_strides))
            self._reject("conv_stride", f"{strides} at its end (encoder_target_ds_factor changes the rate)")
        if as_moonshine and self.conv_dim[-1] != self.hidden_size:
            self._reject("conv_dim", f"hidden_size {self.hidden_size} at its end: Moonshine's stem has no projection")

    def _reject(self, name: str, valid: str) -> None:
        raise UserError(f"config field {name} is {getattr(self, name)!r}; it must be {valid}")


_TTT = "ttt_"
_FIELDS_OF_SAVED_CONFIGS = ("ttt_accept", "architectures", "auto_map", "dtype", "model_type", "transformers_version")
_NULLABLE = ("wav2vec2_model_name",)
_KINDS = {int: "a whole number", bool: "true or false", str: "a string"}
_POSITIVE = (
    *("vocab_size", "sampling_rate", "encoder_target_ds_factor", "num_mel_bins", "num_hidden_layers", "hidden_size"),
    *("intermediate_size", "num_attn_heads", "window_size", "rope_theta", "layer_norm_eps", "initializer_range"),
    *("partial_rotary_factor", "num_lact_heads", "lact_hidden_size", "lact_chunk_size", "fast_weight_lr_init"),
    "mask_span_frames",
)
_PROBABILITIES = (
    *("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop", "mask_prob"),
    "intermediate_ctc_weight",
)
_NOT_NEGATIVE = (
    "encoder_lr_scale",
    "masked_prediction_weight",
    "pad_token_id",
)
_CHOICES = {
    "encoder_type": ("wav2vec2", MOONSHINE),
    "feat_extract_norm": ("group", "layer"),
    "newton_schulz_schedule": NEWTON_SCHULZ_SCHEDULES,
}
