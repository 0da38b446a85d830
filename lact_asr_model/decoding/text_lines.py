"""Lines of text files, plain or compressed, read as a stream."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError

_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
COMPRESSED_SUFFIXES = tuple(_OPENERS)


def read_lines(
    path: str | Path, report_progress: Callable[[int], None] | None = None, *, errors: str = "strict"
) -> Iterator[str]:
    """The lines of a UTF-8 file (.xz, .gz and .bz2 are decompressed), without their ends and byte order mark.

    report_progress gets the number of bytes of the file that were read so far, every 1000 lines and at the end.
    errors: what becomes of bytes that are not UTF-8, as for `bytes.decode`.

    Raises:
        UserError: the file cannot be read, is damaged or is not UTF-8.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            opener = _OPENERS.get(path.suffix)
            lines = io.BufferedReader(opener(file)) if opener else file  # faster than the lines of what decompresses
            for number, line in enumerate(lines, start=1):
                text = line.decode("utf-8", errors).rstrip("\r\n")
                yield text.removeprefix("\ufeff") if number == 1 else text
                if report_progress and number % 1000 == 0:
                    report_progress(file.tell())
            if report_progress:
                report_progress(file.tell())
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is damaged or not UTF-8 text ({error}); get it anew") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); check the path") from None
