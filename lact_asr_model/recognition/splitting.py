"""Long utterances in parts: cut in the longest pauses between words, after CTC has aligned the transcript to them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.decoding.alignment import align_words, frames_needed
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.segments import quietest_sample, split_at_quiet_points

SHORTEST_PAUSE_SECONDS = 0.1
EDGE_SECONDS = 0.5  # of silence that a part keeps before its first word and after its last one
_CHUNK_SECONDS = 30.0
_MOST_ALIGNMENT_BYTES = 2e9


@dataclass(frozen=True)
class Part:
    """A stretch of an utterance with its transcript; confidence: the mean probability of its words, in [0, 1]."""

    start_seconds: float
    end_seconds: float
    text: str
    confidence: float

    @property
    def duration_seconds(self) -> float:
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class _Word:
    text: str
    start_seconds: float
    end_seconds: float
    confidence: float


def split_utterance(model: AcousticModel, samples: np.ndarray, text: str, max_seconds: float) -> list[Part]:
    """Parts of at most `max_seconds`, in their order; one that no pause can shorten is longer.

    Args:
        model: any CTC model; the better it knows the speech, the surer are the cuts.
        samples: float32 [samples] at 16 kHz.
        text: all that is said, words with single spaces between them.

    Raises:
        UserError: the transcript cannot be aligned; the message says why.
    """
    words = _align(model, samples, text)
    neighbours = list(pairwise(words))
    pauses = [after.start_seconds - before.end_seconds for before, after in neighbours]
    cuts = [_quietest_seconds(samples, before.end_seconds, after.start_seconds) for before, after in neighbours]
    end_seconds = len(samples) / SAMPLING_RATE
    parts = []
    stretches = [(0, len(words))]  # of words, from the first up to, without it, the second
    while stretches:
        first, end = stretches.pop()
        start = max(cuts[first - 1] if first else 0.0, words[first].start_seconds - EDGE_SECONDS)
        stop = min(cuts[end - 1] if end < len(words) else end_seconds, words[end - 1].end_seconds + EDGE_SECONDS)
        gaps = [gap for gap in range(first, end - 1) if pauses[gap] >= SHORTEST_PAUSE_SECONDS]
        if stop - start <= max_seconds or not gaps:
            inside = words[first:end]
            confidence = sum(word.confidence for word in inside) / len(inside)
            parts.append(Part(start, stop, " ".join(word.text for word in inside), confidence))
            continue
        quarter = (stop - start) / 4
        central = [gap for gap in gaps if start + quarter <= cuts[gap] <= stop - quarter]
        cut = max(central or gaps, key=pauses.__getitem__)
        stretches += [(cut + 1, end), (first, cut + 1)]
    return parts


def _align(model: AcousticModel, samples: np.ndarray, text: str) -> list[_Word]:
    symbols = set(model.vocabulary) | {" "}
    written = text if symbols.issuperset(text) else text.lower()
    unknown = sorted(set(text) - symbols) if not symbols.issuperset(written) else []
    if unknown:
        raise UserError(f"the model does not write {' '.join(unknown)}")
    log_probs, frame_seconds = _emissions(model, samples)
    if len(log_probs) < frames_needed(written):
        raise UserError("it has more letters than the audio has frames")
    if len(log_probs) * (2.0 * len(written) + 1) > _MOST_ALIGNMENT_BYTES:
        raise UserError("it is too long to be aligned at once")
    ends = np.append(frame_seconds[1:], len(samples) / SAMPLING_RATE)
    return [
        _Word(upper, float(frame_seconds[word.start_frame]), float(ends[word.end_frame - 1]), word.confidence)
        for upper, word in zip(text.split(), align_words(log_probs, written, model.vocabulary), strict=True)
    ]


def _emissions(model: AcousticModel, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [frames, vocab], and where each frame begins in seconds [frames]."""
    rows: list[np.ndarray] = [np.empty((0, len(model.vocabulary)), dtype=np.float32)]
    seconds: list[np.ndarray] = [np.empty(0)]
    for segment in split_at_quiet_points([samples], _CHUNK_SECONDS):
        if len(segment.samples) >= model.shortest_samples:
            logits, _ = model.recognize(model.prepare([segment.samples]))
            rows.append(torch.log_softmax(logits[0].float(), dim=-1).cpu().numpy())
            seconds.append(segment.start_seconds + model.frame_seconds * np.arange(len(rows[-1])))
    return np.concatenate(rows), np.concatenate(seconds)


def _quietest_seconds(samples: np.ndarray, start_seconds: float, end_seconds: float) -> float:
    """The quietest point of a pause; its middle, where it is too short to look into."""
    start, end = round(start_seconds * SAMPLING_RATE), round(end_seconds * SAMPLING_RATE)
    if end_seconds - start_seconds < SHORTEST_PAUSE_SECONDS:
        return (start_seconds + end_seconds) / 2
    return (start + quietest_sample(samples[start:end])) / SAMPLING_RATE
