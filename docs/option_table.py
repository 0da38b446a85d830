"""A hook of mkdocs: the table of the adaptation options, from the fields that declare them."""

from dataclasses import fields
from typing import Any

from lact_asr_model.adaptation.options import AdaptationOptions

PLACE = "<!-- adaptation options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table into its place, if the page has one."""
    return markdown.replace(PLACE, option_table()) if PLACE in markdown else markdown


def option_table() -> str:
    """A row for each field of `AdaptationOptions`: name, kind of value, default, meaning."""
    rows = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in fields(AdaptationOptions):
        metadata = option.metadata
        rows.append(f"| `{option.name}` | {metadata['metavar']} | `{option.default}` | {metadata['help']} |")
    return "\n".join(rows)
