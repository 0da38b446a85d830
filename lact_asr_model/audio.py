"""The one reader of audio: everything that FFmpeg decodes, whole or block by block, as one channel at one rate."""

import math
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
import soxr

from lact_asr_model.container_structure import (
    UNKNOWN_NUM_BYTES,
    is_cut_matroska,
    is_cut_riff,
    mp3_frame_num_bytes,
    num_bytes_of,
    ogg_links,
    promised_mp3_frames,
)
from lact_asr_model.errors import UserError

SAMPLING_RATE = 16000
TOLERATED_SECONDS = 0.1  # by which a data set may be wrong about times: they are rounded
AUDIO_SUFFIXES = {
    *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".awb", ".caf", ".eac3", ".flac", ".gsm"),
    *(".m4a", ".m4b", ".m4r", ".mka", ".mp1", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".ra", ".rf64"),
    *(".snd", ".sph", ".spx", ".tta", ".voc", ".w64", ".wav", ".wave", ".weba", ".wma", ".wv"),
    # Video. Not .ts and .mts, which are programs more often: their content tells.
    *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".ogm", ".ogv", ".rm", ".rmvb", ".vob", ".webm", ".wmv"),
}


@dataclass(frozen=True)
class EmbeddedAudio:
    """A recording inside a larger file or folder, which the reader takes in the place of a path.

    container: that file or folder, which stands for the recording where only files count (`os.fspath`). name: of the
    recording in there. open: gives the recording as a file that can be sought in.
    """

    container: Path
    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]] = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.container}: {self.name}"

    def __fspath__(self) -> str:
        return os.fspath(self.container)

    def read_bytes(self) -> bytes:
        """All of the recording's file, as `Path.read_bytes`."""
        with self.open() as file:
            return file.read()


AudioFile = Path | EmbeddedAudio


@contextmanager
def open_stretch(path: Path, first_byte: int, num_bytes: int) -> Iterator[BinaryIO]:
    """A file that is a stretch of a larger one."""
    with path.open("rb") as file:
        yield cast(BinaryIO, _FilePart(file, first_byte, first_byte + num_bytes))


@dataclass(frozen=True)
class Audio:
    """What could be read of a file: float32 [samples] of one channel, and what its reader had to say."""

    samples: np.ndarray
    warnings: tuple[str, ...] = ()


class AudioReader:
    """An audio file or the sound of a video, block by block, so that memory stays bounded. It can be iterated once.

    Iterating gives float32 blocks [samples] of about 10 s, in [-1, 1] for integer formats, resampled across their
    borders. The length is what is decoded, whatever the header says; encoder delays are left out as FFmpeg does.

    After the last block, `damage` says where a damaged or cut file broke off, if it did, and `warnings` holds this and
    everything else that its user should know, a line each that begins with the path.

    Args:
        path: the file, which may be inside another one; a pipe is copied to a temporary file first.
        sampling_rate: of the blocks, in Hz.
        channel: index of the channel to read, or the last if there are fewer; None = the mean of all.
        strict: refuse a damaged or cut file, when its end is reached.
        offset_seconds, duration_seconds: read this stretch only, and no further; None = to the end.

    Raises:
        UserError: while iterating: nothing can be read, or samples are NaN or infinite, or `strict` refuses, or the
            file ends before the stretch does.
    """

    def __init__(
        self,
        path: str | AudioFile,
        sampling_rate: int = SAMPLING_RATE,
        *,
        channel: int | None = None,
        strict: bool = False,
        offset_seconds: float = 0.0,
        duration_seconds: float | None = None,
    ) -> None:
        self.path = Path(path) if isinstance(path, str) else path
        self.sampling_rate = sampling_rate
        self.channel = channel
        self.strict = strict
        self._start = round(offset_seconds * sampling_rate)
        self._end = math.inf if duration_seconds is None else self._start + round(duration_seconds * sampling_rate)
        self._position = 0
        self.damage: str | None = None
        self.warnings: list[str] = []
        self._mix_energy = 0.0
        self._channels_energy = 0.0  # mean over the channels
        self._uncorrelated_energy = 0.0  # what their mix would have, were they independent of each other

    def __iter__(self) -> Iterator[np.ndarray]:
        num_samples = 0
        try:
            with _opened(self.path) as file:
                decoder = _Decoder(self.path, file)
                for block in self._stretch(self._resampled(decoder.blocks())):
                    if len(block):
                        num_samples += len(block)
                        yield block
        except MemoryError as error:
            raise UserError(f"{self.path}: {_OUT_OF_MEMORY}") from error
        if self._position >= self._end:
            return  # what comes after the stretch was not read
        if self._end < math.inf and self._end - self._position > TOLERATED_SECONDS * self.sampling_rate:
            raise UserError(
                f"{self.path}: ends at {self._position / self.sampling_rate:.2f} s, before the segment does at "
                f"{self._end / self.sampling_rate:.2f} s; correct its offset and duration"
            )
        if num_samples == 0:
            if decoder.fault_seconds is not None:
                raise UserError(f"{self.path}: not a readable audio file; {_CONVERT}")
            raise UserError(f"{self.path}: the file has no samples; remove it or record it again")
        self._judge(decoder)

    def _stretch(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """What lies between the first and the last sample that are wanted."""
        for block in blocks:
            first = max(self._start - self._position, 0)
            last = int(min(self._end - self._position, len(block)))
            self._position += len(block)
            if first < last:
                yield block[first:last]
            if self._position >= self._end:
                return

    def _resampled(self, blocks: Iterator[tuple[np.ndarray, int]]) -> Iterator[np.ndarray]:
        """One channel at the wanted rate; a file may change its rate and channels on the way."""
        rate_hz = 0
        resampler = None
        for samples, block_rate_hz in blocks:
            if block_rate_hz != rate_hz:
                if resampler is not None:
                    yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
                rate_hz = self._checked_rate(block_rate_hz)
                is_same = rate_hz == self.sampling_rate
                resampler = None if is_same else soxr.ResampleStream(rate_hz, self.sampling_rate, 1, dtype="float32")
            mono = self._mix(samples)
            yield mono if resampler is None else resampler.resample_chunk(mono)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)

    def _checked_rate(self, rate_hz: int) -> int:
        if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
            raise UserError(
                f"{self.path}: its header gives a sampling rate of {rate_hz} Hz, which no recording has; "
                "write the file again with the rate that it was recorded at"
            )
        return rate_hz

    def _mix(self, samples: np.ndarray) -> np.ndarray:
        """The chosen channel, or the mean, of [channels, samples]: [samples]."""
        if self.channel is not None:
            channel = min(self.channel, len(samples) - 1)
            samples = samples[channel : channel + 1]
        if not np.isfinite(samples).all():
            reason = "samples are NaN or infinite; write the file again, for example as 16-bit WAV"
            raise UserError(f"{self.path}: {reason}")
        num_channels = len(samples)
        if num_channels == 1:
            return np.ascontiguousarray(samples[0])
        mix = samples.mean(axis=0)
        energy = float(np.vdot(samples, samples))
        self._mix_energy += float(np.vdot(mix, mix))
        self._channels_energy += energy / num_channels
        self._uncorrelated_energy += energy / num_channels**2
        return mix

    def _judge(self, decoder: "_Decoder") -> None:
        """Say what the user should know about a file of which something could be read."""
        fault = decoder.fault()
        if fault is not None:
            if self.strict:
                raise UserError(f"{self.path}: {fault.partition(';')[0]}; copy it again or {_CONVERT}")
            self.damage = f"{self.path}: {fault}"
            self.warnings.append(self.damage)
        if self._mix_energy < _CANCELLED_SHARE * self._uncorrelated_energy:
            loss_db = 10 * math.log10(self._channels_energy / max(self._mix_energy, 1e-10 * self._channels_energy))
            self.warnings.append(
                f"{self.path}: its channels nearly cancel, their mean is {loss_db:.0f} dB quieter than they are; "
                "read one channel or each, for example with --channels left"
            )


def read_audio(path: str | Path, sampling_rate: int = SAMPLING_RATE, *, channel: int | None = None) -> Audio:
    """Read what there is of an audio file, as `AudioReader` does, at once.

    Raises:
        UserError: nothing can be read, or samples are NaN or infinite, or memory runs out.
    """
    reader = AudioReader(path, sampling_rate, channel=channel)
    return Audio(_join(reader), tuple(reader.warnings))


def load_audio(
    path: str | AudioFile,
    sampling_rate: int = SAMPLING_RATE,
    *,
    channel: int | None = None,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> np.ndarray:
    """Read an undamaged audio file, or a stretch of one: float32 [samples], a channel or the mean of all.

    Raises:
        UserError: as `AudioReader`, and if the file is damaged or cut, which the samples alone would not show.
    """
    reader = AudioReader(
        path,
        sampling_rate,
        channel=channel,
        strict=True,
        offset_seconds=offset_seconds,
        duration_seconds=duration_seconds,
    )
    return _join(reader)


def resample(samples: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Change the sampling rate of [samples] without delay; the same array when the rates are equal."""
    if from_hz == to_hz:
        return samples
    return soxr.resample(samples, from_hz, to_hz, quality="HQ")


def audio_duration_seconds(path: str | AudioFile) -> float:
    """Length of an audio file in seconds: from its header where that is reliable, else by reading all of it.

    Raises:
        UserError: the file cannot be opened, or, where it has to be read, as `AudioReader`.
    """
    with _opened(path) as file:
        decoder = _Decoder(path, file)
        seconds = decoder.header_seconds()
        if seconds is None:
            seconds = sum(samples.shape[1] / rate_hz for samples, rate_hz in decoder.blocks())
    return seconds


def count_channels(path: str | Path) -> int:
    """Number of channels by the header of an audio file. Raises UserError when it cannot be opened."""
    with _opened(path) as file, _container(path, file) as (_, stream):
        return stream.codec_context.channels


def has_audio(path: str | Path) -> bool:
    """Whether a file is audio by its content, whatever its name; reads only its beginning."""
    try:
        with (
            Path(path).open("rb") as file,
            av.open(_Unnamed(file), "r", options=_OPTIONS | _CHEAP_PROBE) as container,
        ):
            return bool(container.streams.audio) and next(container.decode(audio=0), None) is not None
    except (av.FFmpegError, OSError, ValueError):
        return False


_CONVERT = "convert it anew, for example with `ffmpeg -i IN OUT.wav`"
_OUT_OF_MEMORY = "too long for the memory of this machine; cut it into pieces"
_BLOCK_SECONDS = 10
_BLOCK_VALUES = 4_000_000  # of all channels: 8 at 655 kHz, a header's work, would be gigabytes in 10 s
_LOWEST_RATE_HZ = 1000
_HIGHEST_RATE_HZ = 1_000_000
_CANCELLED_SHARE = 0.1
_TOLERATED_SECONDS = 0.05
_LEAST_BITS_PER_SECOND = 500  # a header that promises so much more than the file holds is no guide
_OPTIONS = {"protocol_whitelist": "none"}  # a playlist must not open other files or the network
_WITHOUT_PROBING = {"max_probe_packets": "1"}  # PCM need not be searched for other codecs, which takes milliseconds
_CHEAP_PROBE = {"probesize": "65536", "analyzeduration": "0"}
_TAGS = (b"ID3", b"TAG", b"APE", b"LYR")  # of MP3 files, which joining leaves in their middle
_UNFLAGGED_FORMATS = {"wav", "avi", "caf"}  # FFmpeg calls their last packet corrupt where the header is unfinished
_PROMISING_FORMATS = {"flac", "aiff", "au", "caf", "tta"}
_HEADER_FORMATS = {"w64", "flac", "caf", "ogg", "mov,mp4,m4a,3gp,3g2,mj2"}
_AMR_SILENCE_TYPES = {"amrnb": 8, "amrwb": 9}  # frame types from here on are comfort noise or nothing


def _join(reader: AudioReader) -> np.ndarray:
    try:
        blocks = list(reader)
        if not blocks:
            raise UserError(f"{reader.path}: its segment is shorter than a sample; correct its duration")
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    except MemoryError as error:
        raise UserError(f"{reader.path}: {_OUT_OF_MEMORY}") from error


@contextmanager
def _opened(path: str | AudioFile) -> Iterator[BinaryIO]:
    """A file that can be sought in; of a pipe, its content. Raises UserError."""
    if "\0" in str(path):
        raise UserError(f"{path}: a name cannot hold a NUL; check the path")
    try:
        with (
            path.open() if isinstance(path, EmbeddedAudio) else Path(path).open("rb") as file,
            ExitStack() as stack,
        ):
            source: BinaryIO = file
            if not file.seekable():
                source = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
                shutil.copyfileobj(file, source)
                source.seek(0)
            if not source.read(1):
                raise UserError(f"{path}: the file is empty; remove it or record it again")
            yield source
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: it is a folder; name an audio file in it") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error


@contextmanager
def _container(path: str | AudioFile, file: BinaryIO) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    """The opened container and its best audio stream. Raises UserError."""
    file.seek(0)
    is_riff = file.read(4) in (b"RIFF", b"RF64")
    file.seek(0)
    try:
        container = av.open(
            file, "r", options=_OPTIONS | (_WITHOUT_PROBING if is_riff else {}), metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{path}: not a readable audio file; {_CONVERT}") from error
    with container:
        stream = container.streams.best("audio") if container.streams.audio else None
        if stream is None:
            raise UserError(f"{path}: there is no audio in it that FFmpeg knows; name a file that has some")
        if stream.codec_context is None:
            raise UserError(f"{path}: its audio is in a format that FFmpeg cannot decode; {_CONVERT}")
        yield container, cast(av.AudioStream, stream)


class _Decoder:
    """The audio of a file as FFmpeg decodes it, and where it broke off."""

    def __init__(self, path: str | AudioFile, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.seconds = 0.0  # decoded so far
        self.fault_seconds: float | None = None  # where the first damaged packet was
        self._is_cut = False
        self._is_complete = False  # all that the header promises is there
        self._gap_seconds: float | None = None
        self._num_packets = 0

    def header_seconds(self) -> float | None:
        """The length by the header, or None where it cannot be relied on."""
        seconds = Fraction()
        for part in self._parts():
            with _container(self.path, part) as (container, stream):
                part_seconds = _header_seconds(stream)
                if part_seconds is None or not _is_reliable_header(container.format.name, part):
                    return None
                seconds += part_seconds
                if stream.codec_context.name == "opus":
                    seconds -= _opus_delay_seconds(stream)
        is_plausible = 0 < seconds < num_bytes_of(self.file) * 8 / _LEAST_BITS_PER_SECOND
        return float(seconds) if is_plausible else None

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Float32 [channels, samples] of at most 10 s, each with its sampling rate in Hz. Raises UserError."""
        for number, part in enumerate(self._parts()):
            try:
                with _container(self.path, part) as (container, stream):
                    self._num_packets = 0
                    yield from self._decode(container, stream)
                    self._check_promises(container, stream)
            except UserError:
                if number == 0:
                    raise
                self._note_fault()

    def fault(self) -> str | None:
        """Where the file broke off, and whether something follows."""
        position_seconds = self.fault_seconds
        has_more = position_seconds is not None and self.seconds - position_seconds > _TOLERATED_SECONDS
        if self._is_complete and not has_more:
            return None  # what could not be decoded lies behind the audio
        if position_seconds is None and self._is_cut:
            position_seconds = self.seconds if self._gap_seconds is None else self._gap_seconds
            has_more = self.seconds - position_seconds > _TOLERATED_SECONDS
        if position_seconds is None:
            return None
        if has_more:
            return f"damaged after {position_seconds:.1f} s; some of the rest is missing"
        return f"damaged or cut after {position_seconds:.1f} s; the rest is missing"

    def _parts(self) -> Iterator[BinaryIO]:
        """The file, or each of the Ogg files that are chained in it."""
        self.file.seek(0)
        if self.file.read(4) != b"OggS":
            yield self.file
            return
        links, self._is_cut = ogg_links(self.file)
        for start, end in links:
            yield self.file if len(links) == 1 else cast(BinaryIO, _FilePart(self.file, start, end))

    def _decode(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> Iterator[tuple[np.ndarray, int]]:
        fifo = av.AudioFifo()
        is_flac = container.format.name == "flac"
        for frame in self._frames(container, stream):
            if is_flac and self._gap_seconds is None and (frame.time or 0.0) > self.seconds + _TOLERATED_SECONDS:
                self._gap_seconds = self.seconds
            self.seconds += frame.samples / frame.sample_rate
            frame.pts = None  # or the buffer insists that it has no gaps
            try:
                fifo.write(frame)
            except ValueError:  # another rate or number of channels than before
                yield from _drain(fifo)
                fifo = av.AudioFifo()
                fifo.write(frame)
            num_channels = frame.layout.nb_channels
            if fifo.samples >= min(_BLOCK_SECONDS * frame.sample_rate, _BLOCK_VALUES // num_channels):
                yield from _drain(fifo)
        yield from _drain(fifo)

    def _frames(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
        context = stream.codec_context
        context.thread_count = 1  # more would cost more to start than they save
        packet: av.Packet | None
        last_packet = None
        for packet in self._packets(container, stream):
            if packet is not None and packet.is_corrupt and container.format.name not in _UNFLAGGED_FORMATS:
                self._note_fault()
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                content = b"" if packet is None else bytes(packet)
                if context.name in _AMR_SILENCE_TYPES and content[0] >> 3 & 15 >= _AMR_SILENCE_TYPES[context.name]:
                    frames = [_silence(context.sample_rate // 50, context.sample_rate)]
                elif content[:3] in _TAGS:
                    continue
                else:
                    self._note_fault()
                    continue
            yield from frames
            if packet is not None and packet.size:
                self._num_packets += 1
                last_packet = packet
        if container.format.name == "mp3" and last_packet is not None:
            frame_num_bytes = mp3_frame_num_bytes(bytes(last_packet)[:4])
            self._is_cut |= frame_num_bytes is not None and last_packet.size < frame_num_bytes

    def _packets(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.Packet | None]:
        """The packets up to the end or to where the file cannot be read on; the last is empty and ends decoding."""
        try:
            yield from container.demux(stream)
        except (av.FFmpegError, OSError):
            self._note_fault()
            yield None
        except IndexError:  # PyAV, at the end of a file in which streams came up that its header does not name
            yield None

    def _note_fault(self) -> None:
        if self.fault_seconds is None:
            self.fault_seconds = self.seconds

    def _check_promises(self, container: av.container.InputContainer, stream: av.AudioStream) -> None:
        """Compare what was decoded with what the header promises, where that is more than an estimate."""
        name = container.format.name
        if name in ("wav", "avi"):
            self._is_cut = is_cut_riff(self.file)
            self._is_complete = not self._is_cut
        elif name == "matroska,webm":
            self._is_cut = is_cut_matroska(self.file)
        elif name == "mp3":
            promise = promised_mp3_frames(self.file)
            self._is_complete = promise is not None and self._num_packets >= promise[0]
            self._is_cut |= promise is not None and not self._is_complete
        elif name in _PROMISING_FORMATS:
            seconds = _promised_seconds(stream, name)
            self._is_complete = seconds is not None and self.seconds >= seconds - _TOLERATED_SECONDS
            self._is_cut = seconds is not None and not self._is_complete


def _is_reliable_header(format_name: str, file: BinaryIO) -> bool:
    if format_name == "wav":
        return not is_cut_riff(file)
    if format_name == "mp3":
        promise = promised_mp3_frames(file)
        return promise is not None and promise[1]
    return format_name in _HEADER_FORMATS


def _promised_seconds(stream: av.AudioStream, format_name: str) -> Fraction | None:
    """The length that a header states; None where the writer left it open."""
    context = stream.codec_context
    if format_name == "caf":
        return Fraction(stream.frames, context.sample_rate) if stream.frames else None
    if format_name == "aiff" and stream.frames * context.channels * context.format.bytes >= UNKNOWN_NUM_BYTES:
        return None
    return _header_seconds(stream)


def _header_seconds(stream: av.AudioStream) -> Fraction | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return stream.duration * stream.time_base


def _opus_delay_seconds(stream: av.AudioStream) -> Fraction:
    """What an Opus decoder leaves out at the beginning, which the length of the stream includes (RFC 7845)."""
    header = stream.codec_context.extradata or b""
    return Fraction(struct.unpack("<H", header[10:12])[0], 48000) if len(header) >= 12 else Fraction()


def _drain(fifo: av.AudioFifo) -> Iterator[tuple[np.ndarray, int]]:
    """Everything in the buffer, as float32 [channels, samples]."""
    frame = fifo.read()
    if frame is None:
        return
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind in "iu":
        scale = np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
        centre = np.float32(1 if samples.dtype.kind == "u" else 0)
        samples = np.multiply(samples, scale, dtype=np.float32) - centre
    yield np.asarray(samples, dtype=np.float32), frame.sample_rate


def _silence(num_samples: int, sampling_rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, num_samples), dtype=np.float32), format="fltp", layout="mono")
    frame.sample_rate = sampling_rate
    return frame


class _FilePart:
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file = file
        self.start = start
        self.num_bytes = end - start
        self.position = 0

    def read(self, num_bytes: int = -1) -> bytes:
        self.file.seek(self.start + self.position)
        num_bytes_left = self.num_bytes - self.position
        content = self.file.read(num_bytes_left if num_bytes < 0 else min(num_bytes, num_bytes_left))
        self.position += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = min(max(offset + (0, self.position, self.num_bytes)[whence], 0), self.num_bytes)
        return self.position

    def tell(self) -> int:
        return self.position

    def seekable(self) -> bool:
        return True


class _Unnamed:
    """A file without its name, which FFmpeg would go by."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell
