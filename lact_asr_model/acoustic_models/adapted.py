"""Adaptation of a model that the caller already holds, in one call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.functional import frozen_copy
from lact_asr_model.acoustic_models.loading import as_acoustic_model, load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation
from lact_asr_model.adaptation.procedure import adapt as adapt_to_inputs
from lact_asr_model.audio import load_audio
from lact_asr_model.errors import UserError

Audio = str | Path | np.ndarray | Tensor | Sequence[float]


def adapt(model: Any, audio: Audio, options: AdaptationOptions | None = None, *, processor: Any = None) -> Adaptation:
    """Adapt a CTC model to a recording, and recognise it.

        model = Wav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base-960h")
        adaptation = lact_asr_model.adapt(model, "talk.mp3")
        ids = adaptation.logits.argmax(-1)       # the answer; adaptation.weights are those that moved

    Args:
        model: a `transformers` model with a CTC head, what `load` gives, or a name for it; nothing of it changes.
        audio: a file, or float samples [samples] at the model's sampling rate. A long recording is adapted to whole.
        options: None = the model's own, or those that `lact-asr tune-ttt` found and left beside its checkpoint.
        processor: of a `transformers` model; None = that of the checkpoint which it was loaded from.

    Returns:
        logits [1, frames, vocabulary] before the softmax, losses [steps, 1], and the moved weights by name [1, ...].

    Raises:
        UserError: the audio cannot be read or is too short for a frame, or the model cannot be adapted so.
    """
    acoustic_model = _prepared(model, processor)
    inputs = acoustic_model.prepare([_samples(audio, acoustic_model)])
    return adapt_to_inputs(acoustic_model, inputs, options or acoustic_model.default_options)


def adapted(model: Any, audio: Audio, options: AdaptationOptions | None = None, *, processor: Any = None) -> nn.Module:
    """A copy of a CTC model, of the same class, that is adapted to a recording; arguments as in `adapt`.

    It is in evaluation mode and shares all weights that did not move with the original, which stays as it is: it can
    go into a pipeline in the original's place, to recognise more of the same speaker in the same room.
    """
    acoustic_model = _prepared(model, processor)
    adaptation = adapt(acoustic_model, audio, options)
    copy = frozen_copy(acoustic_model.model)
    for name, weight in adaptation.weights.items():
        module_name, _, parameter_name = name.rpartition(".")
        moved = nn.Parameter(weight[0].clone(), requires_grad=False)
        setattr(copy.get_submodule(module_name), parameter_name, moved)
    return copy


def _prepared(model: Any, processor: Any) -> AcousticModel:
    if model is None or isinstance(model, str | Path):
        return load(model)
    return as_acoustic_model(model, processor)


def _samples(audio: Audio, model: AcousticModel) -> np.ndarray:
    samples = load_audio(audio) if isinstance(audio, str | Path) else np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise UserError(f"audio: has the shape {list(samples.shape)}; give one recording [samples]")
    if len(samples) < model.shortest_samples:
        raise UserError(f"audio: {len(samples)} samples are too short for a frame; give {model.shortest_samples}")
    return samples
