"""Decoding in processes of its own, so that a model can compute the next batch meanwhile."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis
from lact_asr_model.decoding.options import NONE, DecodingOptions
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class ParallelDecoder(Decoder):
    """The decoder of `make_decoder` in several processes; the results are those of one.

    Use it in a `with` statement, or call `close`. The processes end with the program in any case.

    Raises:
        UserError: as `make_decoder`, or the number of processes is below 1.
    """

    def __init__(self, options: DecodingOptions, vocabulary: list[str], num_processes: int) -> None:
        if num_processes < 1:
            raise UserError(f"decoding processes {num_processes}: is below 1; give 1 or more")
        self.uses_language_model = options.beam_size > 1 and options.lm != NONE
        # Not forked: the parent has threads of PyTorch, and may have a GPU.
        self._pool = ProcessPoolExecutor(
            num_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(options, vocabulary),
        )
        try:
            with _killed_processes_told():
                self._pool.submit(_make).result()  # what is wrong with the options is told here
        except BaseException:
            self.close()
            raise

    def submit(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> "Future[Hypothesis]":
        """Begin to decode log-probabilities [frames, vocab] without padding. Raises UserError as `collect`."""
        emissions = log_probs if isinstance(log_probs, np.ndarray) else log_probs.detach().cpu().numpy()
        with _killed_processes_told():
            return self._pool.submit(_decode, emissions)

    def decode(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> Hypothesis:
        """Decode one utterance and wait for it."""
        return self.collect([self.submit(log_probs)])[0]

    def decode_all(self, batch: "Iterable[np.ndarray[Any, Any] | Tensor]") -> list[Hypothesis]:
        """Decode utterances; the results are in their order."""
        return self.collect([self.submit(log_probs) for log_probs in batch])

    def collect(self, futures: "Sequence[Future[Hypothesis]]") -> list[Hypothesis]:
        """Wait for what `submit` began. Raises UserError if a process was killed."""
        with _killed_processes_told():
            return [future.result() for future in futures]

    def close(self) -> None:
        """End the processes; what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "ParallelDecoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def _killed_processes_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise UserError(
            "a decoding process was killed, perhaps for its memory; give fewer --decoding_processes"
        ) from None


_arguments: tuple[DecodingOptions, list[str]]
_decoders: list[Decoder] = []


def _begin(options: DecodingOptions, vocabulary: list[str]) -> None:
    """Begin a process: Ctrl-C is for the parent. The decoder is made in a task, whose errors reach the parent."""
    global _arguments
    _arguments = (options, vocabulary)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make() -> None:
    if not _decoders:
        _decoders.append(make_decoder(*_arguments))


def _decode(log_probs: np.ndarray) -> Hypothesis:
    _make()
    return _decoders[0].decode(log_probs)
