"""The log-probabilities of recordings, computed once for many decodings."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel


def compute_emissions(model: AcousticModel, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Log-probabilities [frames, vocab] float32 of recordings [samples], each as a whole and without adaptation."""
    emissions = []
    for samples in tqdm(recordings, unit="utt", desc="acoustic model", disable=None):
        logits, _ = model.recognize(model.prepare([samples]))
        emissions.append(torch.log_softmax(logits[0].float(), dim=-1).cpu().numpy())
    return emissions
