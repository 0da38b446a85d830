"""The segments of all requests, recognised together."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from async_batcher.batcher import AsyncBatcher

from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.recognition.transcript import Transcript
from lact_asr_model.serving.service_metrics import ServiceMetrics


@dataclass(frozen=True)
class Manner:
    """How a request wants to be recognised: adapted to or not, by beam search or greedily."""

    adapt: bool
    beam: bool


@dataclass(frozen=True, eq=False)
class _Task:
    samples: np.ndarray
    manner: Manner


class BatchedRecognizer:
    """Recognises segments that arrive one by one, from many requests at once, in batches.

    While a batch is computed, what arrives waits and makes up the next ones; nothing waits for a batch to fill up. All
    is computed in one thread. A segment that cannot be recognised leaves the others of its batch alone.

    Args:
        transcribers: one for each manner; their batch size is that of the batches.
        metrics: where audio and batches are counted.
    """

    def __init__(self, transcribers: Mapping[Manner, Transcriber], metrics: ServiceMetrics) -> None:
        self._batcher = _Batcher(transcribers, metrics)

    async def recognize(self, samples: np.ndarray, manner: Manner) -> Transcript:
        """The transcript of a segment, float32 [samples] at 16 kHz.

        Raises:
            UserError: memory runs out.
        """
        # Shielded: the library drops the rest of a batch if one of those who wait for it has gone away.
        return await asyncio.shield(self._batcher.process(_Task(samples, manner)))

    async def stop(self) -> None:
        """Finish what was begun, and take nothing more."""
        await self._batcher.stop()
        self._batcher.executor.shutdown()


class _Batcher(AsyncBatcher[_Task, Transcript]):
    def __init__(self, transcribers: Mapping[Manner, Transcriber], metrics: ServiceMetrics) -> None:
        self._transcribers = transcribers
        self._metrics = metrics
        self.batch_size = max(transcriber.batch_size for transcriber in transcribers.values())
        super().__init__(
            max_batch_size=max(self.batch_size, 2),  # the library knows no batches of one; `process_batch` makes them
            max_queue_time=0.0,
            executor=ThreadPoolExecutor(1, thread_name_prefix="recognition"),
        )

    def process_batch(self, batch: list[_Task]) -> list[Transcript | Exception]:  # type: ignore[override]
        """The transcripts, or what went wrong, in the order of the tasks."""
        places: dict[Manner, list[int]] = defaultdict(list)
        for place, task in enumerate(batch):
            places[task.manner].append(place)
        results: dict[int, Transcript | Exception] = {}
        for manner, same in places.items():
            for start in range(0, len(same), self.batch_size):
                together = same[start : start + self.batch_size]
                recognized = self._recognize([batch[place].samples for place in together], manner)
                results.update(zip(together, recognized, strict=True))
        return [results[place] for place in range(len(batch))]

    def _recognize(self, segments: list[np.ndarray], manner: Manner) -> list[Transcript | Exception]:
        transcriber = self._transcribers[manner]
        self._metrics.batch_segments.observe(len(segments))
        try:
            transcripts = transcriber.recognize(segments)
        except Exception as error:
            if len(segments) == 1:
                return [error]
            return [self._recognize([segment], manner)[0] for segment in segments]
        self._metrics.audio_seconds.inc(sum(transcript.duration_seconds for transcript in transcripts))
        return list(transcripts)
