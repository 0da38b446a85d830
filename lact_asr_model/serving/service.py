"""One model at work for all requests."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from lact_asr_model.errors import UserError
from lact_asr_model.recognition.transcript import Transcript
from lact_asr_model.serving.api_errors import ApiError, no_longer_than
from lact_asr_model.serving.batching import BatchedRecognizer, Manner
from lact_asr_model.serving.limits import Limits
from lact_asr_model.serving.service_metrics import ServiceMetrics
from lact_asr_model.serving.uploads import Recording

_ALIASES = {"whisper-1"}  # what many clients send without being asked
_ENGLISH = {"en", "eng", "english"}


@dataclass(eq=False)
class Service:
    """What the application answers with.

    recognizer, metrics: shared by all requests. model_name: as clients see it. language: of the model; None = unknown.
    default_manner: of requests that do not say. has_beam: whether the service was started with beam search.
    chunk_seconds: longest segment. num_streams: live captions now.
    """

    recognizer: BatchedRecognizer
    metrics: ServiceMetrics
    limits: Limits
    model_name: str
    language: str | None
    default_manner: Manner
    has_beam: bool
    chunk_seconds: float = 30.0
    num_streams: int = 0

    def check_model(self, name: str) -> None:
        """Raises ApiError if a request asks for another model."""
        if name not in {self.model_name, *_ALIASES}:
            raise ApiError(404, f"model {name!r}: is not here; ask for {self.model_name!r}", "model_not_found", "model")

    def check_language(self, language: str | None) -> None:
        """Raises ApiError if a request asks for another language."""
        if language is None or self.language is None:
            return
        same = _ENGLISH if self.language.lower() in _ENGLISH else {self.language.lower()}
        if language.lower() not in same:
            raise ApiError(
                400,
                f"language {language!r}: the model knows {self.language!r} only; leave it out",
                "unsupported_language",
                "language",
            )

    def manner(self, adapt: bool | None, beam: bool | None) -> Manner:
        """How a request wants to be recognised. Raises ApiError if there is no beam search."""
        if beam and not self.has_beam:
            raise ApiError(400, "beam: this server was started without beam search; leave it out", None, "beam")
        default = self.default_manner
        return Manner(default.adapt if adapt is None else adapt, default.beam if beam is None else beam)

    async def transcripts(self, recording: Recording, manner: Manner) -> AsyncIterator[tuple[float, Transcript]]:
        """The transcripts of a recording's segments, each with the second where it starts.

        A request has one segment at a time among those that wait, so that a long recording does not hold up short ones.

        Raises:
            ApiError: it takes too long, or memory runs out.
        """
        spent_seconds = 0.0
        loop = asyncio.get_running_loop()
        async for segment in recording.segments(self.chunk_seconds):
            start_seconds = loop.time()
            async with no_longer_than(self.limits.timeout_seconds, spent_seconds):
                try:
                    transcript = await self.recognizer.recognize(segment.samples, manner)
                except UserError as error:
                    raise ApiError(503, f"the recording cannot be recognised now: {error}", "out_of_memory") from None
            spent_seconds += loop.time() - start_seconds
            yield segment.start_seconds, transcript
