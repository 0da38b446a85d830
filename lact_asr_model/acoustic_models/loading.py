"""`load`: a name becomes a model ready to transcribe and adapt."""

import json
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
    from lact_asr_model.acoustic_models.functional import frozen_copy
    from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
    from lact_asr_model.checkpoint_io import BUNDLED_MODEL_DIR, load_checkpoint

    if name is not None and _is_of_another_kind(str(name)):
        from lact_asr_model.acoustic_models.hugging_face import load_hugging_face

        return _named(load_hugging_face(str(name), language), name)
    if language is not None:
        raise UserError(f"language {language}: this model has no languages to choose from; leave it out")
    path = None if name is None else Path(name)
    model, processor = load_checkpoint(path)
    folder = BUNDLED_MODEL_DIR if path is None else path if path.is_dir() else path.parent
    return _named(HybridAcousticModel(frozen_copy(model), processor, folder), name)


def as_acoustic_model(model: Any, processor: Any = None) -> "AcousticModel":
    """A `transformers` model object that the caller already holds; its weights are shared and never changed.

    Args:
        model: with a CTC head, such as `Wav2Vec2ForCTC`, or an `AcousticModel`, which is returned as it is.
        processor: of the model; None = that of the checkpoint which the model was loaded from.

    Raises:
        UserError: the model has no CTC head, or no processor is there.
    """
    from lact_asr_model.acoustic_models.functional import frozen_copy
    from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
    from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

    if hasattr(model, "weight_groups"):
        return model
    if processor is None:
        from transformers import AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(model.name_or_path)
        except (OSError, ValueError, AttributeError):
            raise UserError(
                f"model {type(model).__name__}: no processor was found for it; give processor=..."
            ) from None
    if isinstance(model, HybridASRForCTC):
        return HybridAcousticModel(frozen_copy(model), processor)
    if not hasattr(model, "lm_head"):
        raise UserError(f"model {type(model).__name__}: has no CTC head; load it with AutoModelForCTC")
    return HuggingFaceAcousticModel(model, processor.feature_extractor, processor.tokenizer)


def _named(model: "AcousticModel", name: str | Path | None) -> "AcousticModel":
    """With its name, and the options that `lact-asr tune-ttt` left in its folder, if it did."""
    from lact_asr_model.acoustic_models.tuned_options import read_tuned_options

    model.name = None if name is None else str(name)
    model.default_options = read_tuned_options(model.folder) or model.default_options
    return model


def _is_of_another_kind(name: str) -> bool:
    """Whether the name is not a checkpoint of this package: a folder of another type, or an id on the hub."""
    from lact_asr_model.configuration_hybrid_asr import HybridASRConfig

    path = Path(name)
    config_path = path / "config.json"
    if config_path.is_file():
        try:
            fields = json.loads(config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        own = HybridASRConfig.model_type
        return isinstance(fields, dict) and fields.get("model_type", own) != own
    return name.count("/") == 1 and not path.is_absolute() and not path.parent.is_dir() and path.suffix != ".pt"
