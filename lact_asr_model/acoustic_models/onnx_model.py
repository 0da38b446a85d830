"""An exported model behind the interface of all models: ONNX Runtime computes, and nothing here imports torch."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    import onnxruntime

GRAPH_NAME = "model.onnx"
DESCRIPTION_NAME = "export.json"
INPUT_NAME = "input_values"
OUTPUT_NAME = "log_probs"
ZERO_MEAN_UNIT_VARIANCE = "zero_mean_unit_variance"
EXTRA = 'the export extra; run `pip install "lact-asr[export]"`'
_FORMAT_VERSION = 1
_MEMORY_MESSAGES = ("failed to allocate memory", "bad_alloc")


@dataclass(frozen=True)
class OnnxDescription:
    """`export.json`: all that a program needs to know beside the graph.

    The graph takes `input_values` float32 [1, samples] and gives `log_probs` float32 [1, frames, vocabulary].

    source: what was exported. lact_asr_version: of the package that did it. opset: of ONNX. weights: "float32", or
    "int8" where the matrices are. normalization: what is done to the samples of a recording first, null = nothing;
    "zero_mean_unit_variance" is (x - mean) / sqrt(variance + normalization_epsilon).
    sampling_rate_hz: of the recordings. shortest_samples: a recording of fewer gives no frame.
    frame_seconds: from one frame to the next. vocabulary: the symbol of every output; `<pad>` is the blank, `|` the
    word separator. largest_differences: of a log-probability from PyTorch's with float32 weights, by the number of
    samples.
    """

    source: str
    lact_asr_version: str
    opset: int
    weights: str
    normalization: str | None
    normalization_epsilon: float
    sampling_rate_hz: int
    shortest_samples: int
    frame_seconds: float
    vocabulary: list[str]
    blank_id: int
    largest_differences: dict[str, float]
    format_version: int = _FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Into the folder of the graph."""
        content = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / DESCRIPTION_NAME).write_text(content, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises UserError: it is missing, damaged, or of a later version of the package."""
        try:
            content = json.loads((folder / DESCRIPTION_NAME).read_text(encoding="utf-8"))
            version = content["format_version"]
            if version == _FORMAT_VERSION:
                return cls(**content)
        except OSError:
            raise UserError(
                f"checkpoint {folder}: is no exported model; give a folder of `lact-asr export`, or runtime torch"
            ) from None
        except (ValueError, TypeError, KeyError):
            raise UserError(f"checkpoint {folder}: its {DESCRIPTION_NAME} is damaged; export the model again") from None
        raise UserError(f"checkpoint {folder}: is of format {version}, which is unknown here; export the model again")


class OnnxAcousticModel(AcousticModel):
    """See `AcousticModel`. It recognises one recording at a time on the CPU, and cannot be adapted.

    Args:
        session: of the graph.
        description: of the folder.
        folder: see `AcousticModel`.
        num_threads: of the session; 0 = as many as there are cores.
    """

    is_batched = False
    newton_schulz_schedule = ""
    device: Any = "cpu"

    def __init__(
        self, session: "onnxruntime.InferenceSession", description: OnnxDescription, folder: Path, num_threads: int = 0
    ) -> None:
        self.model = session
        self.description = description
        self.folder = folder
        self.name = str(folder)
        self.vocabulary = description.vocabulary
        self.blank_id = description.blank_id
        self.sampling_rate = description.sampling_rate_hz
        self.frame_seconds = description.frame_seconds
        self.shortest_samples = description.shortest_samples
        self._num_threads = num_threads

    @property
    def default_options(self) -> AdaptationOptions:  # type: ignore[override]
        """There are none. Raises UserError."""
        self._refuse_to_adapt()

    def to(self, device: Any) -> Self:
        """Raises UserError unless it is the CPU."""
        if str(device) != "cpu":
            raise UserError(f"device {device}: an exported model runs on the CPU; give cpu, or leave the device out")
        return self

    def prepare(self, recordings: Sequence[np.ndarray]) -> dict[str, Any]:
        """One recording, float32 [samples], normalised as the model wants it."""
        (samples,) = recordings
        if self.description.normalization == ZERO_MEAN_UNIT_VARIANCE:
            deviation = np.sqrt(samples.var() + self.description.normalization_epsilon)
            samples = (samples - samples.mean()) / deviation
        return {INPUT_NAME: samples[None].astype(np.float32, copy=False)}

    def recognize(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Log-probabilities [1, frames, vocabulary], and a mask that is true everywhere. Raises MemoryError."""
        try:
            (log_probs,) = self.model.run([OUTPUT_NAME], dict(inputs))
        except Exception as error:  # ONNX Runtime has no error of its own for it
            if any(message in str(error).lower() for message in _MEMORY_MESSAGES):
                raise MemoryError from None
            raise
        return log_probs, np.ones(log_probs.shape[:2], dtype=bool)

    def log_probs(self, logits: Any, frame_mask: Any, *, on_cpu: bool = False) -> list[Any]:
        return list(logits)

    def synchronize(self) -> None:
        pass

    def describe_runtime(self) -> dict[str, Any]:
        import onnxruntime

        return {"num_threads": self._num_threads or "all", "onnxruntime": onnxruntime.__version__}

    def weight_groups(self) -> NoReturn:
        """There are none. Raises UserError."""
        self._refuse_to_adapt()

    def listen(self, inputs: Mapping[str, Any], names: Collection[str], options: AdaptationOptions) -> NoReturn:
        """Raises UserError."""
        self._refuse_to_adapt()

    def _refuse_to_adapt(self) -> NoReturn:
        raise UserError(
            f"checkpoint {self.folder}: an exported model cannot be adapted; leave adaptation out, or adapt the "
            f"checkpoint that it was exported from ({self.description.source}) with runtime torch"
        )


def load_onnx(folder: str | Path, *, num_threads: int | None = None) -> OnnxAcousticModel:
    """A model that `lact-asr export` wrote.

    Args:
        folder: its folder.
        num_threads: of the computation; None = as many as there are cores.

    Raises:
        UserError: no exported model is there, it is damaged, or ONNX Runtime is not installed.
    """
    folder = Path(folder)
    description = OnnxDescription.read(folder)
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"runtime onnx: needs {EXTRA}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    try:
        session = onnxruntime.InferenceSession(folder / GRAPH_NAME, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class of its own for each kind of damage
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"checkpoint {folder}: its {GRAPH_NAME} cannot be loaded ({reason}); export the model again"
        ) from None
    return OnnxAcousticModel(session, description, folder, num_threads or 0)
