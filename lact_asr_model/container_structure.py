"""What audio files say about their own extent: where their parts begin, and whether they end too early.

FFmpeg decodes a file that is cut without an error, and of joined Ogg files with different parameters only the first.
"""

import os
import struct
from typing import BinaryIO

# Sizes from here on are the placeholders of programs that write to a pipe and cannot go back to fill them in.
UNKNOWN_NUM_BYTES = 0x7F000000
_SLACK_BYTES = 256  # headers that are wrong by a few bytes are common
_OGG_HEADER = struct.Struct("<4sBBqIIIB")
_OGG_FIRST_PAGE_FLAG = 2
_MPEG1_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_RATES_HZ = (44100, 48000, 32000)


def num_bytes_of(file: BinaryIO) -> int:
    """Length of a seekable file."""
    return file.seek(0, os.SEEK_END)


def ogg_links(file: BinaryIO) -> tuple[list[tuple[int, int]], bool]:
    """The (start, end) in bytes of each of the Ogg files that are chained in one, and whether its last page is cut.

    Source: RFC 3533. A link begins with first pages of streams, which follow one another.
    """
    num_bytes = num_bytes_of(file)
    starts = [0]
    position = 0
    is_cut = was_first_page = False
    while position < num_bytes:
        file.seek(position)
        header = file.read(_OGG_HEADER.size)
        if header[:4] != b"OggS":
            break  # damaged, or something behind the audio: FFmpeg looks for the next page
        if len(header) < _OGG_HEADER.size:
            is_cut = True
            break
        _, _, flags, _, _, _, _, num_lacing_values = _OGG_HEADER.unpack(header)
        is_first_page = bool(flags & _OGG_FIRST_PAGE_FLAG)
        if is_first_page and not was_first_page and position > 0:
            starts.append(position)
        was_first_page = is_first_page
        position += _OGG_HEADER.size + num_lacing_values + sum(file.read(num_lacing_values))
        is_cut = position > num_bytes
    return list(zip(starts, [*starts[1:], num_bytes], strict=True)), is_cut


def is_cut_riff(file: BinaryIO) -> bool:
    """Whether the samples of a WAV (RF64 too) or an AVI end before its header says; False where it does not say."""
    num_bytes = num_bytes_of(file)
    position = 12
    large_num_bytes = 0
    while position + 8 < num_bytes:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"ds64":
            large_num_bytes = struct.unpack("<8xQ", file.read(16))[0]
        elif name == b"data" and size == 0xFFFFFFFF and large_num_bytes:
            size = large_num_bytes
        elif size >= UNKNOWN_NUM_BYTES:
            return False
        if position + size > num_bytes + _SLACK_BYTES:
            return True
        if name == b"data":
            return False
        position += size + size % 2
    return False


def is_cut_matroska(file: BinaryIO) -> bool:
    """Whether a Matroska or WebM file is shorter than its segment; False for a recording whose end was never written.

    Source: RFC 8794 (EBML).
    """
    file.seek(0)
    head = file.read(4096)
    header_num_bytes, width, _ = _ebml_number(head[4:])
    segment = 4 + width + header_num_bytes
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return False
    segment_num_bytes, width, is_unknown = _ebml_number(head[segment + 4 :])
    return not is_unknown and segment + 4 + width + segment_num_bytes > num_bytes_of(file)


def promised_mp3_frames(file: BinaryIO) -> tuple[int, bool] | None:
    """Number of frames by the Xing or Info tag of an MP3 file, and whether the tag is about the whole file.

    None without a tag. One of joined files is about the first of them only.
    """
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(64)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return None
    flags, num_frames, num_bytes = struct.unpack(">III", frame[tag + 4 : tag + 16])
    if not flags & 1:
        return None
    return num_frames, bool(flags & 2) and abs(num_bytes_of(file) - start - num_bytes) <= _SLACK_BYTES


def mp3_frame_num_bytes(header: bytes) -> int | None:
    """Length of an MPEG layer III frame by its first 4 bytes; None if they are no such header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = (header[1] >> 3) & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    bitrate, rate, padding = header[2] >> 4, (header[2] >> 2) & 3, (header[2] >> 1) & 1
    if version == 1 or not 0 < bitrate < 15 or rate == 3:
        return None
    if version == 3:
        return 144_000 * _MPEG1_KBITS[bitrate] // _MPEG1_RATES_HZ[rate] + padding
    rate_hz = _MPEG1_RATES_HZ[rate] // (2 if version == 2 else 4)
    return 72_000 * _MPEG2_KBITS[bitrate] // rate_hz + padding


def _ebml_number(content: bytes) -> tuple[int, int, bool]:
    """A number of variable width: its value, its width in bytes, and whether it means "unknown"."""
    if not content or content[0] == 0:
        return 0, 1, True
    width = 9 - content[0].bit_length()
    largest = (1 << 7 * width) - 1
    value = int.from_bytes(content[:width], "big") & largest
    return value, width, value == largest
