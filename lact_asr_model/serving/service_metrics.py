"""What Prometheus can read of the service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ServiceMetrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("lact_asr_answers", "Answers, by status", ["status"], registry=self.registry)
        self.answer_seconds = Histogram(
            "lact_asr_answer_seconds",
            "From a request to the end of its answer",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests = Gauge("lact_asr_requests", "Requests that are worked on or wait", registry=self.registry)
        self.streams = Gauge("lact_asr_caption_streams", "Live captions", registry=self.registry)
        self.audio_seconds = Counter("lact_asr_audio_seconds", "Audio recognised", registry=self.registry)
        self.batch_segments = Histogram(
            "lact_asr_batch_segments", "Segments in a batch", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)
