"""Every method recognises the very same corrupted audio, and leaves a record of each recognition."""

import hashlib
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from torch import nn
from tqdm.auto import tqdm

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.data.conditions import Condition
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.evaluation.emission_store import EmissionStore
from lact_asr_model.evaluation.kept_records import check_kept
from lact_asr_model.evaluation.processes import ALONE, Processes
from lact_asr_model.evaluation.records import Record, RecordLog
from lact_asr_model.evaluation.summary import BASELINE, CLEAN, SHIFTED, summarize
from lact_asr_model.evaluation.tasks import Task
from lact_asr_model.files import encode
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.text import normalize_text


def corrupt(samples: np.ndarray, condition: Condition, utterance_id: str, seed: int) -> np.ndarray:
    """Apply a condition to an utterance; what is random depends on the seed, the condition and the utterance only."""
    sequence = [seed, zlib.crc32(encode(condition.name)), zlib.crc32(encode(utterance_id))]
    return condition(samples, np.random.default_rng(sequence))


def recognize(
    recognizers: Mapping[str, Transcriber],
    batch: Sequence[Utterance],
    condition: Condition,
    seed: int,
    store: EmissionStore | None = None,
) -> Iterator[Record]:
    """Corrupt a batch once and recognise it with every method; the time is shared out by the lengths.

    `store` gets the log-probabilities, which the transcribers must keep then.

    Raises:
        UserError: a recording cannot be read.
    """
    recordings = [corrupt(load_samples(utterance), condition, utterance.id, seed) for utterance in batch]
    num_samples = sum(map(len, recordings))
    for method, recognizer in recognizers.items():
        start_seconds = time.perf_counter()
        transcripts = recognizer.transcribe_samples(recordings)
        elapsed_seconds = time.perf_counter() - start_seconds
        for utterance, samples, transcript in zip(batch, recordings, transcripts, strict=True):
            record = Record(
                id=utterance.id,
                condition=condition.name,
                method=method,
                ref=utterance.text or "",
                hyp=normalize_text(transcript.text),
                duration=transcript.duration_seconds,
                seconds=elapsed_seconds * len(samples) / num_samples,
                adapted=transcript.is_adapted,
            )
            if store is not None:
                store.write(record.key, transcript.emissions)
            yield record


def warm_up(recognizers: Iterable[Transcriber]) -> None:
    """Recognise a second of noise with each, so that what happens only once is in no utterance's time."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLING_RATE, dtype=np.float32)
    for recognizer in recognizers:
        recognizer.transcribe_samples([noise])


def run(
    recognizers: Mapping[str, Transcriber],
    tasks: Sequence[Task],
    log: RecordLog,
    *,
    streams: Collection[str] = (),
    batch_size: int = 1,
    seed: int = 0,
    processes: Processes = ALONE,
    store: EmissionStore | None = None,
) -> None:
    """Do every task with every method, unless the log has its records already.

    Args:
        recognizers: one for each method, by name.
        tasks: with names of their own.
        log: gets a record for each recognition.
        streams: the methods that carry something over from one utterance to the next. They begin anew with every task,
            hear its utterances in order, and repeat a task of which the log has only a part.
        batch_size: utterances recognised at once, of similar length; 1 = in their order, which streams need.
        seed: of the corruptions.
        processes: those that share the tasks out; streams need one process.
        store: gets the log-probabilities of each recognition; what it lacks is recognised again.

    Raises:
        UserError: a recording cannot be read, or the log is of other utterances.
    """
    if streams and (batch_size > 1 or processes.count > 1):
        raise ValueError("a stream needs batches of one utterance, and one process")
    check_kept(log, tasks, recognizers, streams)

    def is_missing(method: str, task: Task, batch: Sequence[Utterance]) -> bool:
        needed = task.utterances if method in streams else batch
        keys = [(task.name, method, utterance.id) for utterance in needed]
        return any(key not in log or (store is not None and key not in store) for key in keys)

    jobs = []
    for task in tasks:
        for batch in _batches(task.utterances, batch_size):
            methods = [method for method in recognizers if is_missing(method, task, batch)]
            if methods:
                jobs.append((task, batch, methods))
    jobs = jobs[processes.rank :: processes.count]
    total_seconds = sum(_seconds(batch) * len(methods) for _, batch, methods in jobs)
    progress = tqdm(total=round(total_seconds), unit="s", unit_scale=True, disable=None if processes.is_first else True)
    with progress:
        for name, jobs_of_task in groupby(jobs, key=lambda job: job[0].name):
            progress.set_description(name)
            for recognizer in recognizers.values():
                recognizer.reset_stream()
            for task, batch, methods in jobs_of_task:
                chosen = {method: recognizers[method] for method in methods}
                for record in recognize(chosen, batch, task.condition, seed, store):
                    log.append(record)
                    progress.update(record.duration)


def summarize_all(
    log: RecordLog, tasks: Sequence[Task], methods: Sequence[str], seed: int, baseline: str = BASELINE
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The summaries of a finished run: of each task and method, and of each method over the shifted tasks.

    Shifted is every task but clean; the second list is empty where there are fewer than two of them. All are compared
    with the method `baseline`, if it is one of them.
    """

    def summaries(tasks: Sequence[Task], title: str | None = None) -> list[dict[str, Any]]:
        records = {
            method: [log[task.name, method, utterance.id] for task in tasks for utterance in task.utterances]
            for method in methods
        }
        return [
            summarize(records[method], None if method == baseline else records.get(baseline), seed, title)
            for method in methods
        ]

    shifted = [task for task in tasks if task.name != CLEAN]
    by_task = [summary for task in tasks for summary in summaries([task])]
    return by_task, summaries(shifted, SHIFTED) if len(shifted) > 1 else []


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of all weights: which model it was, wherever its file lies."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _batches(utterances: Sequence[Utterance], batch_size: int) -> Iterator[Sequence[Utterance]]:
    if batch_size > 1:
        utterances = sorted(utterances, key=lambda utterance: -utterance.duration_seconds)
    for start in range(0, len(utterances), batch_size):
        yield utterances[start : start + batch_size]


def _seconds(batch: Sequence[Utterance]) -> float:
    return sum(utterance.duration_seconds for utterance in batch)
