"""From audio to transcripts: batches, long recordings in segments, adaptation, decoding, and where the time went."""

import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.audio import AudioReader
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.decoding.greedy import GreedyDecoder
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis
from lact_asr_model.decoding.parallel import ParallelDecoder
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.run_description import describe_run
from lact_asr_model.recognition.sample_arrays import as_recordings
from lact_asr_model.recognition.segments import Segment, split_at_quiet_points
from lact_asr_model.recognition.transcript import AudioSource, FileResult, TimedWord, Transcript

if TYPE_CHECKING:  # an exported model is transcribed with without torch
    import torch

    from lact_asr_model.adaptation.lessons import Teacher
    from lact_asr_model.adaptation.peers import Peer
    from lact_asr_model.adaptation.procedure import Adaptation
    from lact_asr_model.adaptation.protocol import Weights

STAGES = ("recognition", "adaptation", "decoding")
_MOST_PADDING = 0.1  # of a recording, on a CPU
_SMALLEST_RANGE = 2.0**-15  # one step of 16-bit audio: below it a recording is digital silence

Key = TypeVar("Key", bound=Hashable)


class Transcriber:
    """A recogniser ready for use.

    Recordings of more than `chunk_seconds` are cut at their quietest points and recognised (and adapted to) piece by
    piece. `stage_seconds` and `audio_seconds` add up over all calls; reading files is not counted. All passes of the
    model over a recording that is adapted to, the last one too, count as "adaptation", the only pass over any other as
    "recognition". A `ParallelDecoder` decodes a batch while the model computes the next one; what is counted then is
    the time spent waiting for it.
    In the mode "continual" the recordings are a stream, whose weights are carried on from call to call.

    Args:
        model: as `acoustic_models.loading.load` gives it, moved to `device`; its weights are never changed.
        decoder: None = greedy.
        teacher: decoder whose text a taught loss of `ttt_options` learns; None = `decoder`, if it searches.
        ttt_options: how to adapt to each recording, by our procedure or a published one; None = not at all. The mode
            "continual" takes a batch size of 1.
        device: where the model runs.
        batch_size: recordings (or segments) recognised at once; on a CPU those of them whose lengths are similar.
        chunk_seconds: longest segment.
        move_emission_to_cpu: decode from a copy in main memory, so that a GPU holds no log-probabilities meanwhile.
        keep_emissions: give the log-probabilities with the transcripts, for other decodings.
        compile: recognise by compiled code, which pays for many recordings on a GPU (see `CompiledRecognition`);
            adaptation cannot be compiled.

    Raises:
        UserError: a value that cannot be used, or two that do not go together.
    """

    def __init__(
        self,
        model: AcousticModel,
        *,
        decoder: Decoder | None = None,
        teacher: Decoder | None = None,
        ttt_options: "AdaptationOptions | Peer | None" = None,
        device: "torch.device | str" = "cpu",
        batch_size: int = 1,
        chunk_seconds: float = 30.0,
        move_emission_to_cpu: bool = False,
        keep_emissions: bool = False,
        compile: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}: is below 1; give 1 or more")
        self.is_stream = isinstance(ttt_options, AdaptationOptions) and ttt_options.mode == "continual"
        if self.is_stream and batch_size != 1:
            raise UserError(f"batch size {batch_size}: a stream is recognised one by one; give 1, or mode 'episodic'")
        if not 1 <= chunk_seconds < float("inf"):
            raise UserError(f"chunk_seconds {chunk_seconds}: is not a number of seconds from 1 up; the default is 30")
        if compile and ttt_options is not None:
            raise UserError("compile: adaptation cannot be compiled; leave out one of them")
        self.model = model.to(device)
        self.device = self.model.device
        self._compiled = self.model.compiled(batch_size) if compile else None
        self.decoder = decoder or GreedyDecoder(model.vocabulary)
        teacher = teacher or (self.decoder if self.decoder.uses_language_model else None)
        if isinstance(ttt_options, AdaptationOptions) and self.decoder.uses_language_model:
            ttt_options = ttt_options.before_language_model()
        self.ttt_options = ttt_options
        self._teacher: Teacher | None = None
        if teacher and ttt_options is not None:
            from lact_asr_model.decoding.teacher import DecoderTeacher

            self._teacher = DecoderTeacher(teacher, model.vocabulary)
        self.batch_size = batch_size
        self.chunk_seconds = chunk_seconds
        self.move_emission_to_cpu = move_emission_to_cpu
        self.keep_emissions = keep_emissions
        self.audio_seconds = 0.0
        self.stage_seconds = dict.fromkeys(STAGES, 0.0)
        self._finish_batch: Callable[[], None] | None = None
        self.reset_stream()

    def reset_stream(self) -> None:
        """Begin a new stream: the next recording is adapted to from the model's own weights."""
        self._stream_start: Weights | None = None
        self._stream_weights: Weights | None = None
        self._stream_length = 0

    def describe_run(self) -> dict[str, Any]:
        """What the model runs on."""
        return describe_run(self.model)

    def transcribe_samples(self, recordings: Sequence[Any]) -> list[Transcript]:
        """Transcribe recordings [samples] at 16 kHz; the results are in their order.

        Each may be an array, tensor or list, float or int16 or int32, with one channel or several (see `as_samples`).

        Raises:
            UserError: a recording is none of these, or holds NaN or infinite samples, or memory runs out.
        """
        arrays = as_recordings(recordings)
        order = list(range(len(arrays)))
        if not self.is_stream:
            order.sort(key=lambda index: -len(arrays[index]))
        sources = ((index, split_at_quiet_points([arrays[index]], self.chunk_seconds)) for index in order)
        transcripts = {recording.key: recording.transcript() for recording in self._transcribe(sources)}
        return [transcripts[index] for index in range(len(arrays))]

    def transcribe_files(
        self, sources: str | Path | Iterable[str | Path | AudioSource], *, strict: bool = False
    ) -> Iterator[FileResult]:
        """Transcribe audio files one after the other, in their order; a bad file gives a result with an error.

        Args:
            sources: paths, or channels of files; a bare path is one file.
            strict: a damaged or cut file is an error too, instead of a partial transcript.

        Raises:
            UserError: memory runs out.
        """
        if isinstance(sources, str | Path):
            sources = [sources]
        for recording in self._transcribe(self._read(sources, strict)):
            reader = recording.key
            warnings = tuple(reader.warnings)
            if recording.error is not None:
                yield FileResult(reader.path, None, recording.error, warnings=warnings)
            else:
                yield FileResult(
                    reader.path, recording.transcript(), is_partial=reader.damage is not None, warnings=warnings
                )

    def transcribe_utterances(self, utterances: Iterable[Utterance], *, strict: bool = False) -> Iterator[FileResult]:
        """The same for the utterances of a data set, some of which may be segments of a file.

        Raises:
            UserError: memory runs out.
        """
        return self.transcribe_files((AudioSource.of(utterance) for utterance in utterances), strict=strict)

    def _read(
        self, sources: Iterable[str | Path | AudioSource], strict: bool
    ) -> Iterator[tuple[AudioReader, Iterator[Segment]]]:
        for source in sources:
            if not isinstance(source, AudioSource):
                source = AudioSource(Path(source))
            reader = AudioReader(
                source.path,
                channel=source.channel,
                strict=strict,
                offset_seconds=source.offset_seconds,
                duration_seconds=source.duration_seconds,
            )
            yield reader, split_at_quiet_points(reader, self.chunk_seconds)

    def _transcribe(self, sources: Iterable[tuple[Key, Iterable[Segment]]]) -> Iterator["_Recording[Key]"]:
        """Recognise the segments of all sources in batches; yields the finished recordings in their order."""
        unfinished: deque[_Recording[Key]] = deque()
        batch: list[tuple[_Recording[Key], Segment]] = []
        for key, segments in sources:
            recording = _Recording(key)
            unfinished.append(recording)
            for segment in recording.read(segments):
                batch.append((recording, segment))
                if len(batch) == self.batch_size:
                    self._run_batch(batch)
                    batch = []
            while unfinished and unfinished[0].is_finished:
                yield unfinished.popleft()
        if batch:
            self._run_batch(batch)
        self._finish_last_batch()
        yield from unfinished

    def _run_batch(self, batch: Sequence[tuple["_Recording[Key]", Segment]]) -> None:
        """Compute a batch and finish the one before it, or this one too if nothing else decodes it meanwhile."""
        finish = self.begin([segment.samples for _, segment in batch])

        def finish_recordings() -> None:
            for (recording, segment), transcript in zip(batch, finish(), strict=True):
                recording.parts.append((segment.start_seconds, transcript))

        self._finish_last_batch()
        self._finish_batch = finish_recordings
        if not isinstance(self.decoder, ParallelDecoder):  # nothing happens meanwhile
            self._finish_last_batch()

    def _finish_last_batch(self) -> None:
        finish, self._finish_batch = self._finish_batch, None
        if finish is not None:
            finish()

    def recognize(self, batch: Sequence[np.ndarray]) -> list[Transcript]:
        """Recognise one batch as it is, without cutting it; a recording without signal has an empty transcript."""
        return self.begin(batch)()

    def begin(self, batch: Sequence[np.ndarray]) -> Callable[[], list[Transcript]]:
        """Compute one batch and begin to decode it; the result waits for the decoder and gives the transcripts."""
        durations = [len(samples) / self.model.sampling_rate for samples in batch]
        self.audio_seconds += sum(durations)
        transcripts = [Transcript("", [], duration) for duration in durations]
        audible = [
            index
            for index, samples in enumerate(batch)
            if len(samples) >= self.model.shortest_samples and has_signal(samples)
        ]
        if not audible:
            return lambda: transcripts
        passes = self._passes({index: len(batch[index]) for index in audible})
        if len(passes) > 1:
            finish_each = [self.begin([batch[index] for index in indices]) for indices in passes]
            self.audio_seconds -= sum(len(batch[index]) / self.model.sampling_rate for index in audible)

            def finish_passes() -> list[Transcript]:
                for indices, finish in zip(passes, finish_each, strict=True):
                    for index, transcript in zip(indices, finish(), strict=True):
                        transcripts[index] = transcript
                return transcripts

            return finish_passes
        try:
            hypotheses_of_batch, adaptation, emissions = self._compute([batch[index] for index in audible])
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise UserError(
                f"out of memory on {self.device} with batch size {len(batch)} and segments of up to "
                f"{max(durations):.0f} s; lower --batch_size or --chunk_seconds"
            ) from None
        is_adapted = adaptation.is_adapted.tolist() if adaptation else [False] * len(audible)
        losses = adaptation.losses.T.tolist() if adaptation else [[]] * len(audible)

        def finish() -> list[Transcript]:
            for row, (index, hypothesis) in enumerate(zip(audible, hypotheses_of_batch(), strict=True)):
                transcripts[index] = Transcript(
                    hypothesis.text,
                    self._timed_words(hypothesis, durations[index]),
                    durations[index],
                    hypothesis.score,
                    is_adapted[row],
                    losses[row],
                    [(alternative.text, alternative.score) for alternative in hypothesis.alternatives],
                    [np.asarray(emissions[row])] if self.keep_emissions else [],
                )
            return transcripts

        return finish

    def _passes(self, lengths: dict[int, int]) -> list[list[int]]:
        """Which recordings of a batch are computed at once, from their numbers of samples.

        All on a GPU. On a CPU padding costs what speech costs, so those whose lengths differ little; and fast steps
        are taken alone, as bfloat16 rounds otherwise in company, which can change a letter.
        """
        options, on_cpu = self.ttt_options, str(self.device) == "cpu"
        is_fast = isinstance(options, AdaptationOptions) and options.speed == "fast"
        is_together = self.model.is_batched and isinstance(options, AdaptationOptions | None)
        if not is_together or (on_cpu and is_fast):
            return [[index] for index in lengths]
        if not on_cpu:
            return [list(lengths)]
        passes: list[list[int]] = []
        for index in sorted(lengths, key=lambda index: -lengths[index]):
            if passes and lengths[index] >= (1 - _MOST_PADDING) * lengths[passes[-1][0]]:
                passes[-1].append(index)
            else:
                passes.append([index])
        return passes

    def _compute(
        self, batch: list[np.ndarray]
    ) -> "tuple[Callable[[], list[Hypothesis]], Adaptation | None, list[torch.Tensor]]":
        adaptation = None
        inputs = self.model.prepare(batch)
        if self.ttt_options is not None:
            from lact_asr_model.adaptation.peers import adapt_with_peer
            from lact_asr_model.adaptation.procedure import adapt

            with self._timed("adaptation"):
                if isinstance(self.ttt_options, AdaptationOptions):
                    adaptation = adapt(self.model, inputs, self.ttt_options, self._stream_weights, self._teacher)
                    self._go_on_from(adaptation, self.ttt_options)
                else:
                    adaptation = adapt_with_peer(self.model, inputs, self.ttt_options, self._teacher)
                logits, frame_mask = adaptation.logits, adaptation.frame_mask
        else:
            with self._timed("recognition"):
                logits, frame_mask = (self._compiled or self.model.recognize)(inputs)
        with self._timed("decoding"):
            on_cpu = self.move_emission_to_cpu or self.keep_emissions
            emissions = self.model.log_probs(logits, frame_mask, on_cpu=on_cpu)
        return self._begin_decoding(emissions), adaptation, emissions

    def _go_on_from(self, adaptation: "Adaptation", options: AdaptationOptions) -> None:
        """The next recording of a stream starts from what this one was adapted to."""
        if not self.is_stream:
            return
        self._stream_start = self._stream_start or adaptation.start
        self._stream_weights = {
            name: weight.lerp(self._stream_start[name], options.stream_decay)
            for name, weight in adaptation.weights.items()
        }
        self._stream_length += 1
        if self._stream_length == options.reset_every:
            self.reset_stream()

    def _begin_decoding(self, emissions: "list[torch.Tensor]") -> Callable[[], list[Hypothesis]]:
        """Log-probabilities [frames, vocab] to one hypothesis an utterance, at once or in other processes."""
        with self._timed("decoding"):
            futures = [self.decoder.submit(log_probs) for log_probs in emissions]

        def wait() -> list[Hypothesis]:
            with self._timed("decoding"):
                return self.decoder.collect(futures)

        return wait

    def _timed_words(self, hypothesis: Hypothesis, duration_seconds: float) -> list[TimedWord]:
        frame_seconds = self.model.frame_seconds
        return [
            TimedWord(
                word.word,
                word.start_frame * frame_seconds,
                min(word.end_frame * frame_seconds, duration_seconds),
                word.confidence,
            )
            for word in hypothesis.words
        ]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start_seconds = self._clock_seconds()
        yield
        self.stage_seconds[stage] += self._clock_seconds() - start_seconds

    def _clock_seconds(self) -> float:
        self.model.synchronize()
        return time.perf_counter()


def has_signal(samples: np.ndarray) -> bool:
    """Whether [samples] are more than digital silence."""
    return len(samples) > 0 and bool(np.ptp(samples) >= _SMALLEST_RANGE)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, a GPU or PyTorch's allocator of main memory, which has no error of its own, ran out."""
    is_of_gpu = type(error).__name__ == "OutOfMemoryError"  # of torch, which may not be loaded
    return is_of_gpu or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


@dataclass
class _Recording(Generic[Key]):
    """A recording on its way: the transcripts of its segments so far."""

    key: Key
    num_segments: int = 0
    is_read: bool = False
    parts: list[tuple[float, Transcript]] = field(default_factory=list)
    error: UserError | None = None

    def read(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """Pass on the segments, up to an error in reading them."""
        try:
            for segment in segments:
                self.num_segments += 1
                yield segment
        except UserError as error:
            self.error = error
        self.is_read = True

    @property
    def is_finished(self) -> bool:
        return self.is_read and (self.error is not None or len(self.parts) == self.num_segments)

    def transcript(self) -> Transcript:
        return join_segments(self.parts)


def join_segments(parts: Sequence[tuple[float, Transcript]]) -> Transcript:
    """The transcript of a recording from those of its segments, each with the second where it starts."""
    if len(parts) == 1:
        return parts[0][1]
    transcripts = [transcript for _, transcript in parts]
    words = [
        TimedWord(word.word, start + word.start_seconds, start + word.end_seconds, word.confidence)
        for start, transcript in parts
        for word in transcript.words
    ]
    losses = [transcript.ttt_losses for transcript in transcripts if transcript.ttt_losses]
    return Transcript(
        " ".join(transcript.text for transcript in transcripts if transcript.text),
        words,
        sum((transcript.duration_seconds for transcript in transcripts), 0.0),
        sum((transcript.score for transcript in transcripts), 0.0),
        any(transcript.is_adapted for transcript in transcripts),
        np.mean(losses, axis=0).tolist() if losses else [],
        _best_combinations(transcripts)[1:],
        [emissions for transcript in transcripts for emissions in transcript.emissions],
    )


def _best_combinations(transcripts: Sequence[Transcript]) -> list[tuple[str, float]]:
    """The n best texts of a whole recording, where each segment has its own n best."""
    num_best = 1 + max((len(transcript.alternatives) for transcript in transcripts), default=0)
    combinations = [("", 0.0)]
    for transcript in transcripts:
        choices = [(transcript.text, transcript.score), *transcript.alternatives]
        longer: dict[str, float] = {}
        for start, start_score in combinations:
            for text, score in choices:
                joined = f"{start} {text}".strip()
                longer[joined] = max(start_score + score, longer.get(joined, -math.inf))
        combinations = heapq.nlargest(num_best, longer.items(), key=lambda choice: choice[1])
    return combinations
