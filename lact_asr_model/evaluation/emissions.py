"""The log-probabilities of recordings, computed once for many decodings."""

from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.decoding.hypothesis import Decoder
from lact_asr_model.recognition.transcriber import Transcriber


def compute_emissions(
    model: AcousticModel,
    recordings: Sequence[np.ndarray],
    options: AdaptationOptions | None = None,
    teacher: Decoder | None = None,
) -> list[np.ndarray]:
    """Log-probabilities [frames, vocab] float32 of recordings [samples], each as a whole.

    Args:
        options: how to adapt to each of them; None = not at all.
        teacher: of a taught loss.
    """
    transcriber = Transcriber(model, ttt_options=options, teacher=teacher, device=model.device, keep_emissions=True)
    emissions = []
    for samples in tqdm(recordings, unit="utt", desc="acoustic model", disable=None):
        (transcript,) = transcriber.recognize([samples])
        emissions.extend(transcript.emissions or [np.zeros((0, len(model.vocabulary)), np.float32)])
    return emissions
