"""From audio to transcripts by each method of a comparison."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.methods import CONTINUAL, OURS, Method
from lact_asr_model.evaluation.peers import PEERS, Peer, adapt_with_peer
from lact_asr_model.inference.segments import split_at_quiet_points
from lact_asr_model.inference.transcriber import Transcriber, Transcript, has_signal, vocabulary_of
from lact_asr_model.inference.ttt_options import TTTOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, SequenceFeatureExtractor, Wav2Vec2Processor

    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC


class Recognizer(Protocol):
    """Anything that transcribes, such as a `Transcriber`."""

    def transcribe_samples(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribe float32 recordings [samples] at 16 kHz; the results are in their order."""
        ...

    def reset_stream(self) -> None:
        """Forget what was carried over from the recordings so far, if anything was."""
        ...


class SingleRecognizer:
    """Recognises with any CTC model, one recording at a time, plainly or adapted by a peer.

    As in `Transcriber`, a recording of more than `chunk_seconds` is recognised in pieces, and one without signal or
    too short for a frame has an empty text.

    Args:
        model: moved to `device` and to evaluation mode; its weights are never changed.
        feature_extractor: of the model.
        vocabulary: the symbol of every output, as for `greedy_decode`.
        peer: None = no adaptation.
        steps: of the peer; None = its own default.
        device: where the model runs.
        chunk_seconds: longest piece.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        feature_extractor: "SequenceFeatureExtractor",
        vocabulary: list[str],
        *,
        peer: Peer | None = None,
        steps: int | None = None,
        device: torch.device | str = "cpu",
        chunk_seconds: float = 30.0,
    ) -> None:
        self.model = model.to(device).eval()
        self.feature_extractor = feature_extractor
        self.vocabulary = vocabulary
        self.peer = peer
        self.steps = steps
        self.chunk_seconds = chunk_seconds

    def transcribe_samples(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """The text, without times of words, of each float32 recording [samples] at 16 kHz."""
        return [self._recognize(samples) for samples in recordings]

    def reset_stream(self) -> None:
        """Nothing to forget: every recording starts from the model as it is."""

    def _recognize(self, samples: np.ndarray) -> Transcript:
        pieces = split_at_quiet_points([samples], self.chunk_seconds)
        recognized = [self._recognize_piece(piece.samples) for piece in pieces]
        text = " ".join(text for text, _ in recognized if text)
        is_adapted = any(is_adapted for _, is_adapted in recognized)
        return Transcript(text, [], len(samples) / SAMPLING_RATE, is_adapted=is_adapted)

    def _recognize_piece(self, samples: np.ndarray) -> tuple[str, bool]:
        """The text, and whether the peer moved any parameter."""
        num_frames = int(self.model._get_feat_extract_output_lengths(torch.tensor(len(samples))))
        if num_frames < 1 or not has_signal(samples):
            return "", False
        inputs = self.feature_extractor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        inputs = {name: values.to(self.model.device) for name, values in inputs.items()}
        is_adapted = False
        if self.peer is None:
            with torch.no_grad():
                logits = self.model(**inputs).logits
        else:
            adaptation = adapt_with_peer(self.model, inputs, self.peer, self.steps)
            logits = adaptation.logits
            is_adapted = any(
                not torch.equal(adapted, self.model.get_parameter(name))
                for name, adapted in adaptation.parameters.items()
            )
        return greedy_decode(torch.log_softmax(logits[0].float(), dim=-1), self.vocabulary).text, is_adapted


def make_recognizer(
    method: Method,
    model: "HybridASRForCTC",
    processor: "Wav2Vec2Processor",
    ttt_options: TTTOptions,
    *,
    peer_learning_rate: float | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
) -> Recognizer:
    """A method with a model of ours; `ttt_options` and `peer_learning_rate` say what the method itself does not.

    Raises:
        UserError: the method names parameters that there are not.
    """
    if method.algorithm in PEERS:
        return make_single_recognizer(
            method,
            model,
            processor.feature_extractor,
            vocabulary_of(processor),
            peer_learning_rate=peer_learning_rate,
            device=device,
        )
    options = None
    if method.algorithm in (OURS, CONTINUAL):
        options = replace(
            ttt_options,
            steps=method.steps or ttt_options.steps,
            parameters=method.ttt_parameters or ttt_options.parameters,
            mode="continual" if method.is_stream else "episodic",
        )
    return Transcriber(model, processor, ttt_options=options, device=device, batch_size=batch_size)


def make_single_recognizer(
    method: Method,
    model: "PreTrainedModel",
    feature_extractor: "SequenceFeatureExtractor",
    vocabulary: list[str],
    *,
    peer_learning_rate: float | None = None,
    device: torch.device | str = "cpu",
) -> Recognizer:
    """A method with any CTC model; `peer_learning_rate` None = as published.

    Raises:
        UserError: the method adapts models of ours only.
    """
    if method.algorithm in (OURS, CONTINUAL):
        raise UserError(f"method '{method.name}': adapts models of this package only; choose none, tent or suta")
    peer = PEERS.get(method.algorithm)
    if peer is not None and peer_learning_rate is not None:
        peer = replace(peer, learning_rate=peer_learning_rate)
    return SingleRecognizer(model, feature_extractor, vocabulary, peer=peer, steps=method.steps, device=device)
