"""Speech recognition that learns from the recording it listens to: any CTC model, adapted in one or two Muon steps.

    import lact_asr_model as lact

    model = lact.load("facebook/wav2vec2-base-960h")    # or None: the bundled model; a folder; a best_model.pt
    transcriber = lact.Transcriber(model, ttt_options=model.default_options)
    for result in transcriber.transcribe_files(["talk.mp3"]):
        print(result.transcript.text)

`import lact_asr_model` is light: everything is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.adapted import adapt, adapted
    from lact_asr_model.acoustic_models.loading import load
    from lact_asr_model.acoustic_models.onnx_model import load_onnx
    from lact_asr_model.adaptation.options import AdaptationOptions
    from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
    from lact_asr_model.evaluation.evaluate import evaluate
    from lact_asr_model.export.hub import push_to_hub
    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
    from lact_asr_model.recognition.transcriber import Transcriber

__all__ = [
    "AdaptationOptions",
    "HybridASRConfig",
    "HybridASRForCTC",
    "Transcriber",
    "adapt",
    "adapted",
    "evaluate",
    "load",
    "load_onnx",
    "push_to_hub",
]

_HOMES = {
    "AdaptationOptions": "adaptation.options",
    "HybridASRConfig": "configuration_hybrid_asr",
    "HybridASRForCTC": "modeling_hybrid_asr",
    "Transcriber": "recognition.transcriber",
    "adapt": "acoustic_models.adapted",
    "adapted": "acoustic_models.adapted",
    "evaluate": "evaluation.evaluate",
    "load": "acoustic_models.loading",
    "load_onnx": "acoustic_models.onnx_model",
    "push_to_hub": "export.hub",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
