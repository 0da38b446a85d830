"""Numbers and symbols of English transcripts, spelled out as they are read aloud."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from lact_asr_model.errors import UserError

_NUMBER = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+"
_SCALE = r"(?: (?:thousand|million|billion|trillion)\b)?"
_CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "")}
_PLURALS = {"penny": "pence", "yen": "yen"}
_FRACTIONS = {"½": "a half", "¼": "a quarter", "¾": "three quarters", "⅓": "a third", "⅔": "two thirds"}
_SYMBOLS = {
    **{"%": "percent", "‰": "per mille", "&": "and", "+": "plus", "=": "equals", "@": "at", "°": "degrees"},
    **{"×": "times", "÷": "divided by", "±": "plus or minus", "§": "section", "№": "number", "©": "copyright"},
    **{"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen"},
}


def load_speller() -> Callable[[str], str]:
    """A function that spells out the numbers and common symbols of an English text and leaves the rest alone.

    Amounts of money, percentages, ordinals, decades, times of the day and, of whole numbers, 1100 to 1999 and 2010 to
    2099 are read as is usual, the latter as years; numbers with a zero in front and those of more than six digits
    without commas are read digit by digit.

    Raises:
        UserError: the normalize extra is not installed.
    """
    try:
        import inflect
    except ImportError:
        raise UserError(
            '--normalize: spelling numbers out needs the normalize extra; run `pip install "lact-asr[normalize]"`'
        ) from None
    return partial(_spell_out, inflect.engine())


def _spell_out(engine: Any, text: str) -> str:
    def words(number: str, **options: Any) -> str:
        return engine.number_to_words(number, comma="", **options)

    def whole(match: re.Match[str]) -> str:
        number = match.group()
        if not number.isdecimal():
            return words(number)
        if len(number) > 6 or (number.startswith("0") and number != "0"):
            return words(number, group=1)
        return _year(number, words) if _is_year(number) else words(number)

    def money(match: re.Match[str]) -> str:
        unit, part = _CURRENCIES[match["symbol"]]
        amount, _, cents = match["amount"].replace(",", "").partition(".")
        if match["scale"]:
            return f"{words(match['amount'])}{match['scale']} {_several(unit)}"
        if cents and (len(cents) != 2 or not part):
            return f"{words(match['amount'])} {_several(unit)}"
        spelled = [_counted(int(amount), unit, words)] if int(amount) or not int(cents or 0) else []
        if int(cents or 0):
            spelled.append(_counted(int(cents), part, words))
        return " and ".join(spelled)

    def clock(match: re.Match[str]) -> str:
        hour, minute = words(match["hour"].lstrip("0") or "0"), int(match["minute"])
        if minute == 0:
            return f"{hour} o'clock"
        return f"{hour} {'oh ' if minute < 10 else ''}{words(str(minute))}"

    def decade(match: re.Match[str]) -> str:
        number = match["number"]
        read = _year(number, words) if _is_year(number) else words(number)
        return engine.plural_noun(read)

    def fraction(match: re.Match[str]) -> str:
        return f"{match['whole'] or ''}{' and ' if match['whole'] else ''}{_FRACTIONS[match['fraction']]}"

    symbols = "".join(map(re.escape, _CURRENCIES))
    replacements: list[tuple[str, Callable[[re.Match[str]], str]]] = [
        (rf"(?P<whole>\d ?)?(?P<fraction>[{''.join(_FRACTIONS)}])", fraction),
        (rf"(?P<symbol>[{symbols}]) ?(?P<amount>{_NUMBER})(?P<scale>{_SCALE})", money),
        (rf"(?P<amount>{_NUMBER})(?P<scale>{_SCALE}) ?(?P<symbol>[{symbols}])", money),
        (r"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)\b", clock),
        (r"\b(?P<number>(?:\d\d)?\d0)['’]?s\b", decade),
        (r"\b(\d+)(?:st|nd|rd|th)\b", lambda match: words(match.group().lower())),
        (r"(?<!\S)[-−](?=\d)", lambda match: "minus "),
        (r"#(?=\d)", lambda match: "number "),
        (_NUMBER, whole),
        ("|".join(map(re.escape, _SYMBOLS)), lambda match: _SYMBOLS[match.group()]),
    ]
    for pattern, replace in replacements:
        text = re.sub(pattern, partial(_apart, replace), text, flags=re.ASCII | re.IGNORECASE)
    return text


def _apart(replace: Callable[[re.Match[str]], str], match: re.Match[str]) -> str:
    return f" {replace(match)} "


def _is_year(number: str) -> bool:
    return len(number) == 4 and (1100 <= int(number) <= 1999 or 2010 <= int(number) <= 2099)


def _year(number: str, words: Callable[..., str]) -> str:
    if number.endswith("00"):
        return f"{words(number[:2])} hundred"
    return words(number, group=2, zero="oh")


def _counted(count: int, unit: str, words: Callable[..., str]) -> str:
    return f"{words(str(count))} {unit if count == 1 else _several(unit)}"


def _several(unit: str) -> str:
    return _PLURALS.get(unit, f"{unit}s")
