"""A hook of mkdocs: the table of the adaptation options, from the fields that declare them."""

from dataclasses import fields
from typing import Any

from lact_asr_model.adaptation.options import AdaptationOptions, model_options

PLACE = "<!-- adaptation options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table into its place, if the page has one."""
    return markdown.replace(PLACE, option_table()) if PLACE in markdown else markdown


def option_table() -> str:
    """A row for each field of `AdaptationOptions`: name, default, flag, meaning."""
    with_flag = {option.name for option in model_options()}
    rows = ["| field | default | flag | |", "|---|---|---|---|"]
    for option in fields(AdaptationOptions):
        flag = f"`--ttt_{option.name}`" if option.name in with_flag else f"`--{option.name}`"
        rows.append(f"| `{option.name}` | `{option.default!r}` | {flag} | {option.metadata['help']} |")
    return "\n".join(rows)
