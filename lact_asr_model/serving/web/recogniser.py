"""What the page asks of the package: a recording plain and adapted, and many recordings one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.observed import ObservedModel, StepPoint
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.hypothesis import Decoder
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.metrics import ErrorCounts, word_errors
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.recognition.transcript import FileResult, Transcript
from lact_asr_model.text import normalize_text

_MOST_MODELS = 2  # kept in memory


@dataclass(frozen=True)
class Recognition:
    """A transcript, the seconds of computing that it took, and its errors if a reference was given."""

    transcript: Transcript
    seconds: float
    errors: ErrorCounts | None


@dataclass(frozen=True)
class Comparison:
    """A recording without and with adaptation, how it was adapted, and how sure the model was on the way."""

    plain: Recognition
    adapted: Recognition
    options: AdaptationOptions
    step_points: list[StepPoint]


class Recogniser:
    """A model with its language model.

    Args:
        model: as `load` gives it.
        options: how it is adapted where the visitor says nothing else.
        beam_size: of the beam search with the bundled language model.
    """

    def __init__(self, model: AcousticModel, options: AdaptationOptions, beam_size: int) -> None:
        self.model = model
        self.options = options
        self._beam_size = beam_size

    @cached_property
    def beam_searches(self) -> tuple[Decoder, Decoder]:
        """For what the model says plainly, and for what it says adapted.

        Raises:
            UserError: the lm extra is not installed, or the language model is for another vocabulary.
        """
        options = DecodingOptions(self._beam_size, weights_dir=self.model.folder)
        plain, adapted = (replace(options, for_adapted=is_adapted) for is_adapted in (False, True))
        return make_decoder(plain, self.model.vocabulary), make_decoder(adapted, self.model.vocabulary)

    def compare(
        self, samples: np.ndarray, *, use_lm: bool, steps: int, step_factor: float, reference: str = ""
    ) -> Comparison:
        """Recognise [samples] at 16 kHz without and with adaptation.

        Args:
            samples: float32.
            use_lm: decode with the language model; otherwise greedily.
            steps, step_factor: so many steps, of so many times the size that the model's options have.
            reference: what was said, in any spelling; empty = unknown.

        Raises:
            UserError: the model cannot be adapted so, the language model cannot be used, or memory runs out.
        """
        options = replace(
            self.options,
            steps=steps,
            steps_with_lm=0,
            learning_rate=self.options.learning_rate * step_factor,
            front_end_step=self.options.front_end_step * step_factor,
        )
        observed = ObservedModel(self.model, options)
        plain = self._recognise(self._transcriber(self.model, None, use_lm), samples, reference)
        adapted = self._recognise(self._transcriber(observed, options, use_lm), samples, reference)
        return Comparison(plain, adapted, options, observed.step_points())

    def transcribe_files(self, paths: Sequence[Path], *, use_lm: bool, adapt: bool) -> Iterator[FileResult]:
        """See `Transcriber.transcribe_files`."""
        return self._transcriber(self.model, self.options if adapt else None, use_lm).transcribe_files(paths)

    def _transcriber(self, model: AcousticModel, options: AdaptationOptions | None, use_lm: bool) -> Transcriber:
        decoder = self.beam_searches[options is not None] if use_lm else None
        return Transcriber(model, decoder=decoder, ttt_options=options, device=self.model.device)

    def _recognise(self, transcriber: Transcriber, samples: np.ndarray, reference: str) -> Recognition:
        (transcript,) = transcriber.transcribe_samples([samples])
        spoken = normalize_text(reference)
        errors = word_errors(spoken, normalize_text(transcript.text)) if spoken else None
        return Recognition(transcript, sum(transcriber.stage_seconds.values()), errors)


class Recognisers:
    """Those of the last few checkpoints that were asked for, by name.

    Args:
        load: makes the recogniser of a checkpoint; None = that of the command line.
    """

    def __init__(self, load: Callable[[str | None], Recogniser]) -> None:
        self._load = lru_cache(_MOST_MODELS)(load)

    def get(self, name: str) -> Recogniser:
        """The recogniser of a checkpoint; an empty name is that of the command line. Raises UserError."""
        return self._load(name.strip() or None)
