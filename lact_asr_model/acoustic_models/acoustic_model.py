"""What transcribing, adapting and evaluating need of a CTC model, whatever its kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lact_asr_model.adaptation.protocol import Speech, WeightGroup


class AcousticModel(ABC):
    """A CTC model ready for use: an `adaptation.protocol.AdaptableModel` that also takes recordings as they are.

    What an exported model (`OnnxAcousticModel`) calls a tensor is an array of numpy: nothing here imports torch.

    model: the module itself, in evaluation mode; nothing changes it.
    vocabulary: the symbol of every output, as in `text`: blank, word separator, silent ones in angle brackets.
    blank_id: index of the blank. newton_schulz_schedule: of adaptation's steps.
    sampling_rate: of the recordings, in Hz. frame_seconds: from one frame to the next.
    shortest_samples: a recording of fewer gives no frame.
    is_batched: whether recordings of different lengths can share a batch without changing each other's output.
    default_options: how it is adapted unless told otherwise.
    name: what it was loaded by; None = it is the bundled model.
    folder: where it was loaded from, with the weights of language models that were tuned for it; None = nowhere.
    """

    model: Any
    vocabulary: list[str]
    blank_id: int
    newton_schulz_schedule: str
    sampling_rate: int
    frame_seconds: float
    shortest_samples: int
    is_batched: bool
    default_options: AdaptationOptions
    name: str | None = None
    folder: Path | None = None

    @property
    def device(self) -> "torch.device":
        return self.model.device

    def to(self, device: "torch.device | str") -> Self:
        """Move the model to a device, and return this."""
        self.model.to(device)
        return self

    @abstractmethod
    def prepare(self, recordings: Sequence[np.ndarray]) -> "dict[str, Tensor]":
        """Recordings, float32 [samples], as arguments of the model's forward pass; one of them is not padded."""

    @abstractmethod
    def recognize(self, inputs: "Mapping[str, Tensor]") -> "tuple[Tensor, Tensor]":
        """Logits [batch, frames, vocabulary] and frame_mask bool [batch, frames], True = real; without gradients."""

    def compiled(self, batch_size: int) -> "Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]":
        """`recognize` by compiled code, for at most so many recordings. Raises UserError: it cannot be compiled."""
        raise UserError("compile: takes a model of this package that is not exported; recognise without it")

    def log_probs(self, logits: "Tensor", frame_mask: "Tensor", *, on_cpu: bool = False) -> "list[Tensor]":
        """Log-probabilities [frames, vocabulary] of each recording, without padding; on request in main memory."""
        log_probs = logits.float().log_softmax(-1)
        rows = log_probs.cpu() if on_cpu else log_probs
        return [row[:length] for row, length in zip(rows, frame_mask.sum(dim=1).tolist(), strict=True)]

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told to do, so that a clock can be read."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def describe_runtime(self) -> dict[str, Any]:
        """What computes, for reports: threads and version."""
        import torch

        return {"num_threads": torch.get_num_threads(), "torch": torch.__version__}

    @abstractmethod
    def weight_groups(self) -> "Mapping[str, WeightGroup]":
        """The groups of weights that adaptation may move, by name."""

    @abstractmethod
    def listen(self, inputs: "Mapping[str, Tensor]", names: Collection[str], options: "AdaptationOptions") -> "Speech":
        """Prepare a batch for adaptation: see `adaptation.protocol.AdaptableModel.listen`."""


def normalize_recordings(feature_extractor: Any, recordings: Sequence[np.ndarray]) -> "dict[str, Tensor]":
    """What the feature extractor makes of the recordings; a mask only where there is padding."""
    inputs = feature_extractor(
        list(recordings),
        sampling_rate=feature_extractor.sampling_rate,
        padding=True,
        pad_to_multiple_of=None,  # wav2vec2-BERT's would fill up an odd number of frames, and call that speech
        return_attention_mask=len(recordings) > 1,
        return_tensors="pt",
    )
    return dict(inputs)
