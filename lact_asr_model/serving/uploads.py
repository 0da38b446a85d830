"""Recordings that clients send: kept in a file while they are read, and measured before anything is computed."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastapi import UploadFile

from lact_asr_model.audio import AUDIO_SUFFIXES, SAMPLING_RATE, AudioReader
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.segments import Segment, split_at_quiet_points
from lact_asr_model.serving.api_errors import ApiError, no_longer_than
from lact_asr_model.serving.limits import Limits


@dataclass(frozen=True)
class Recording:
    """An upload that can be read. warnings: what its user should know, a line each."""

    path: Path
    warnings: tuple[str, ...]

    async def segments(self, chunk_seconds: float) -> AsyncIterator[Segment]:
        """The audio in segments of at most `chunk_seconds`, read as they are asked for."""
        segments = split_at_quiet_points(AudioReader(self.path), chunk_seconds)
        while (segment := await asyncio.to_thread(next, segments, None)) is not None:
            yield segment


@asynccontextmanager
async def kept(upload: UploadFile, limits: Limits) -> AsyncIterator[Recording]:
    """The recording of an upload, in a temporary file. Nothing that is said of it names the file.

    Its audio is decoded once to measure it, block by block, so that a small file with endless audio costs neither
    memory nor recognition. This ends when the request does.

    Raises:
        ApiError: it cannot be read, or has more seconds of audio than allowed, or takes too long to read.
    """
    suffix = PurePosixPath(upload.filename or "").suffix.lower()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"recording{suffix if suffix in AUDIO_SUFFIXES else ''}"
        is_given_up = threading.Event()
        try:
            async with no_longer_than(limits.timeout_seconds):
                recording = await asyncio.to_thread(_measure, upload, path, limits.max_seconds, is_given_up.is_set)
            yield recording
        finally:
            is_given_up.set()


def _measure(upload: UploadFile, path: Path, max_seconds: float, is_given_up: Callable[[], bool]) -> Recording:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    reader = AudioReader(path)
    num_samples = 0
    try:
        for block in reader:
            num_samples += len(block)
            if is_given_up():
                break
            if num_samples > max_seconds * SAMPLING_RATE:
                raise ApiError(
                    413, f"the recording is longer than {max_seconds:g} s; cut it into pieces", "too_long", "file"
                )
    except UserError as error:
        raise ApiError(400, _without_path(str(error), path), "invalid_audio", "file") from None
    return Recording(path, tuple(_without_path(warning, path) for warning in reader.warnings))


def _without_path(message: str, path: Path) -> str:
    return message.replace(str(path), "file")
