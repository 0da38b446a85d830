"""Places in documents for what is measured: whatever stands between their two comments is replaced.

<!-- table: NAME -->
<!-- end of table -->
"""

import re
from collections.abc import Iterable
from pathlib import Path

from lact_asr_model.files import write_atomically


def place_pattern(kind: str) -> re.Pattern[str]:
    """Finds places of a kind, such as "table", with the groups `name` and `content`."""
    return re.compile(
        rf"^<!-- {kind}: (?P<name>[^\n]*?) -->\n(?P<content>.*?)^<!-- end of {kind} -->$", re.MULTILINE | re.DOTALL
    )


def fill(documents: Iterable[Path], name: str, text: str, kind: str = "table") -> int:
    """Put a text, which ends with a line break, into all of its places; returns how many there are."""
    place = f"<!-- {kind}: {name} -->\n{text}<!-- end of {kind} -->"
    num_places = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal num_places
        if match["name"] != name:
            return match[0]
        num_places += 1
        return place

    for document in documents:
        content = document.read_text(encoding="utf-8")
        filled = place_pattern(kind).sub(replace, content)
        if filled != content:
            write_atomically(document, filled)
    return num_places
