"""Transcribers on the machines of a Ray cluster, and what happens when one of them is lost.

Each worker is an actor with one model. It gets a window of recordings at a time, reads them itself, by their paths, and
sends back results; this process is the only one that writes. So a transcript is there once, whatever is lost or done
twice, in the formats of the command, and --resume goes on with it. Ray Data was not taken because its checkpoints (beta
in 2.60) tell which rows one of its own sinks has written, in files of its own; `ray.util.ActorPool` was not, because it
goes on giving work to an actor that has died.
"""

import logging
import math
import os
import platform
import signal
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lact_asr_model.errors import UserError, print_warning
from lact_asr_model.recognition.resumption import in_batch_order, windows
from lact_asr_model.recognition.transcript import AudioSource, FileResult

if TYPE_CHECKING:
    from lact_asr_model.adaptation.options import AdaptationOptions
    from lact_asr_model.recognition.transcriber import Transcriber

LOCAL = "local"
_OBJECT_STORE_BYTES = 100_000_000  # of a cluster of our own: only text passes through it
_MOST_LOSSES = 3


@dataclass(frozen=True)
class _Description:
    """What a transcriber was made to do, and where it runs."""

    ttt_options: "AdaptationOptions | None"
    batch_size: int
    chunk_seconds: float
    run: dict[str, Any]
    machine: str


@dataclass(frozen=True)
class _Window:
    """Recordings that are recognised together, by their numbers; num_losses: how many workers were lost with it."""

    numbers: list[int]
    num_losses: int = 0


class _Worker:
    """The actor. What a user can correct is returned, as Ray wraps what is raised."""

    def __init__(self, make: "Callable[[], Transcriber]", folder: str) -> None:
        self._make = make
        with suppress(OSError):  # where that folder is not shared, relative paths are reported one by one
            os.chdir(folder)

    def start(self) -> _Description | UserError:
        """Load the model."""
        try:
            made = self._transcriber = self._make()
        except UserError as error:
            return UserError(f"{error} (on {platform.node()})")
        if made.is_stream:
            return UserError("--ray: a stream is recognised in its order; leave out --ttt_mode continual, or --ray")
        options: Any = made.ttt_options  # never those of a peer: no option of `transcribe` asks for one
        return _Description(options, made.batch_size, made.chunk_seconds, made.describe_run(), platform.node())

    def transcribe(
        self, sources: Sequence[AudioSource], strict: bool
    ) -> tuple[list[FileResult], float, dict[str, float]] | UserError:
        """The results in their order, the seconds of audio, and those of computing by stage."""
        made = self._transcriber
        made.audio_seconds, made.stage_seconds = 0.0, dict.fromkeys(made.stage_seconds, 0.0)
        try:
            results = [_placed(result) for result in made.transcribe_files(sources, strict=strict)]
        except UserError as error:
            return UserError(f"{error} (on {platform.node()})")
        return results, made.audio_seconds, made.stage_seconds


def _placed(result: FileResult) -> FileResult:
    """An error about a file that is not there says where it is not."""
    if result.error is None or os.path.exists(result.path):
        return result
    machine = platform.node()
    return replace(
        result, error=UserError(f"{result.error} (looked for on {machine}; all machines must see the files)")
    )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Inside, there is a cluster: that at the address, or one on this machine that ends with the block.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise UserError('--ray: needs the ray extra; run `pip install "lact-asr[ray]"`') from None

    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        ray.shutdown()
        reason = str(error).partition(". ")[0]
        raise UserError(f"--ray {address}: no cluster answers ({reason}); `ray start --head` starts one") from None
    try:
        signal.signal(signal.SIGTERM, handler)  # Ray has put another one in its place
        yield
    finally:
        ray.shutdown()


class RayWorkers:
    """Workers for a job, in the place of one `Transcriber`; made inside `connected`.

    audio_seconds, stage_seconds: of all of them together.

    Args:
        make: makes the transcriber of a worker, over there.
        num_workers: None = one for each GPU, or without any as many as there are CPUs for. More than there are GPUs
            share them; those that find no room wait for it.
        num_cpus: of each of them.
        uses_gpus: whether they compute on GPUs if there are any.

    Raises:
        UserError: no worker can be started.
    """

    def __init__(
        self, make: "Callable[[], Transcriber]", num_workers: int | None, *, num_cpus: int, uses_gpus: bool
    ) -> None:
        import ray

        room = ray.cluster_resources()
        num_gpus = int(room.get("GPU", 0)) if uses_gpus else 0
        num_workers = num_workers or num_gpus or int(room.get("CPU", 0)) // num_cpus
        if num_workers == 0:
            raise UserError(f"--ray: the cluster has not the {num_cpus} CPUs that a worker needs; add machines")
        share = 1 / math.ceil(num_workers / num_gpus) if num_gpus else 0
        actor: Any = ray.remote(num_cpus=num_cpus, num_gpus=share, scheduling_strategy="SPREAD")(_Worker)
        self._new_worker = lambda: actor.remote(make, os.getcwd())
        self._running: dict[Any, tuple[Any, _Window | None]] = {}  # by the future; without a window it is starting
        self._free: list[Any] = []
        self._num_failed_starts = 0
        self.audio_seconds = 0.0
        self.stage_seconds: Counter[str] = Counter()
        for _ in range(num_workers):
            self._start_worker()
        while not self._free:
            self._wait()

    @property
    def ttt_options(self) -> "AdaptationOptions | None":
        return self._description.ttt_options

    @property
    def batch_size(self) -> int:
        return self._description.batch_size

    @property
    def chunk_seconds(self) -> float:
        return self._description.chunk_seconds

    def describe_run(self) -> dict[str, Any]:
        """What one of the workers runs on."""
        return self._description.run

    def recognize_pending(
        self,
        sources: Sequence[AudioSource],
        done: Collection[int],
        durations_seconds: Sequence[float] | None = None,
        *,
        strict: bool = False,
    ) -> Iterator[tuple[int, FileResult]]:
        """As `resumption.recognize_pending`, but window by window as they are finished.

        The window of a worker that is lost is given to another. After three losses its recordings are recognised one by
        one, and one that costs a worker even so has an error as its result.
        """
        done = frozenset(done)
        waiting = (
            _Window(in_batch_order(window, durations_seconds, self.batch_size))
            for window in windows(len(sources), done, self.batch_size, is_shared=True)
        )
        again: deque[_Window] = deque()
        while True:
            while self._free and (window := again.popleft() if again else next(waiting, None)):
                worker = self._free.pop()
                future = worker.transcribe.remote([sources[number] for number in window.numbers], strict)
                self._running[future] = worker, window
            if self._free and all(window is None for _, window in self._running.values()):
                return
            window, results = self._wait()
            if window is None:
                continue
            if results is None and window.num_losses + 1 < _MOST_LOSSES:
                again.append(replace(window, num_losses=window.num_losses + 1))
            elif results is None and len(window.numbers) > 1:
                again.extend(_Window([number], _MOST_LOSSES - 1) for number in window.numbers)
            else:
                results = results or [_given_up(sources[window.numbers[0]])]
                numbered = sorted(zip(window.numbers, results, strict=True), key=lambda pair: pair[0])
                yield from ((number, result) for number, result in numbered if number not in done)

    def _start_worker(self) -> None:
        worker = self._new_worker()
        self._running[worker.start.remote()] = worker, None

    def _wait(self) -> tuple[_Window | None, list[FileResult] | None]:
        """Until a worker has started (nothing), or finished a window (and its results), or is lost (no results)."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        (future,), _ = ray.wait(list(self._running), num_returns=1)
        worker, window = self._running.pop(future)
        try:
            answer = ray.get(future)
        except RayTaskError:  # an error of this package, as in one process
            raise
        except RayError as error:
            self._replace(worker, error, is_new=window is None)
            return window, None
        if isinstance(answer, UserError):
            raise answer
        self._free.append(worker)
        if isinstance(answer, _Description):
            self._description = answer
            self._num_failed_starts = 0
            return None, None
        results, audio_seconds, stage_seconds = answer
        self.audio_seconds += audio_seconds
        self.stage_seconds.update(stage_seconds)
        return window, results

    def _replace(self, worker: Any, error: Exception, *, is_new: bool) -> None:
        """Start another worker for one that is lost, but not for ever for those that are lost while they start."""
        import ray

        ray.kill(worker)  # it may only be out of reach
        self._num_failed_starts += is_new
        if self._num_failed_starts < _MOST_LOSSES or not is_new:
            print_warning(f"a worker was lost ({type(error).__name__}); what it was at goes to another one")
            self._start_worker()
        elif not self._free and not self._running:
            raise UserError(f"--ray: no worker starts ({error}); install lact-asr on every machine of the cluster")


def _given_up(source: AudioSource) -> FileResult:
    error = UserError(f"{source.path}: every worker that recognised it was lost; --resume tries it again")
    return FileResult(source.path, None, error)
