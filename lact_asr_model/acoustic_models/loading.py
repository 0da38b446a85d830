"""`load`: a name becomes a model ready to transcribe and adapt."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.acoustic_model import AcousticModel


def load(name: str | Path | None = None, *, language: str | None = None) -> "AcousticModel":
    """The bundled model (None), one of this package from a folder or `best_model.pt`, or any CTC model of Hugging Face.

    Args:
        name: a folder, a `best_model.pt`, or the id of a model on the Hugging Face hub.
        language: code of a multilingual model's adapter, such as "deu" for MMS.

    Raises:
        UserError: nothing is there, it is incomplete, of another kind, or does not have the language.
    """
    from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
    from lact_asr_model.acoustic_models.onnx_model import DESCRIPTION_NAME
    from lact_asr_model.checkpoint_io import BUNDLED_MODEL_DIR, load_network

    path = None if name is None else Path(name)
    if name is not None and _is_hub_id(str(name)):
        path = _downloaded(str(name))
    if name is not None and (path is None or _is_of_another_kind(path)):
        from lact_asr_model.acoustic_models.hugging_face import load_hugging_face

        return _named(load_hugging_face(str(name), language), name)
    if path is not None and (path / DESCRIPTION_NAME).is_file():
        raise UserError(f"checkpoint {path}: is exported; `lact-asr transcribe --runtime onnx` and `load_onnx` take it")
    if language is not None:
        raise UserError(f"language {language}: this model has no languages to choose from; leave it out")
    network, processor = load_network(path)
    folder = BUNDLED_MODEL_DIR if path is None else path if path.is_dir() else path.parent
    return _named(HybridAcousticModel(network.requires_grad_(False), processor, folder), name)


def as_acoustic_model(model: Any, processor: Any = None) -> "AcousticModel":
    """A `transformers` model object that the caller already holds; its weights are shared and never changed.

    Args:
        model: in float32 and with a CTC head, such as `Wav2Vec2ForCTC`, or an `AcousticModel`, which is returned as it
            is. `from_pretrained` keeps the precision of a checkpoint: `model.float()` makes it float32.
        processor: of the model; None = that of the checkpoint which the model was loaded from.

    Raises:
        UserError: the model has no CTC head named `lm_head`, is of another precision, or no processor is there.
    """
    from lact_asr_model.acoustic_models.functional import frozen_copy
    from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
    from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
    from lact_asr_model.hybrid_network import HybridNetwork

    if hasattr(model, "weight_groups"):
        return model
    if processor is None:
        from transformers import AutoProcessor

        with suppress(OSError, ValueError, AttributeError):  # said below
            processor = AutoProcessor.from_pretrained(model.name_or_path)
    name = f"model {type(model).__name__}"
    if not hasattr(processor, "feature_extractor") or not hasattr(processor, "tokenizer"):
        raise UserError(
            f"{name}: no processor was found for it; give processor=..., with a feature extractor and a tokenizer"
        )
    others = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()} - {"float32"}
    if others:
        raise UserError(f"{name}: is {min(others)}; give model.float()")
    if isinstance(model, HybridNetwork):
        return HybridAcousticModel(frozen_copy(model), processor)
    return HuggingFaceAcousticModel(model, processor.feature_extractor, processor.tokenizer)


def _named(model: "AcousticModel", name: str | Path | None) -> "AcousticModel":
    """With its name, and the options that `lact-asr tune-ttt` left in its folder, if it did."""
    from lact_asr_model.acoustic_models.tuned_options import read_tuned_options

    model.name = None if name is None else str(name)
    model.default_options = read_tuned_options(model.folder) or model.default_options
    return model


def _is_hub_id(name: str) -> bool:
    path = Path(name)
    is_here = path.exists() or path.is_absolute() or path.parent.is_dir()
    return name.count("/") == 1 and not is_here and path.suffix != ".pt"


def _downloaded(hub_id: str) -> Path | None:
    """The folder of a model of this package, downloaded whole; None = it is another one, or cannot be had."""
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        folder = Path(hf_hub_download(hub_id, "config.json")).parent
        return None if _is_of_another_kind(folder) else Path(snapshot_download(hub_id))
    except Exception:  # whatever the hub or the network raises; `transformers` says it in a line
        return None


def _is_of_another_kind(folder: Path) -> bool:
    """Whether a folder holds a model of another type than this package's."""
    from lact_asr_model.configuration_hybrid_asr import HybridASRConfig

    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    own = HybridASRConfig.model_type
    return isinstance(fields, dict) and fields.get("model_type", own) != own
