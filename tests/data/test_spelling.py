"""Numbers and symbols in words."""

import re
import sys

import pytest

from lact_asr_model.data.spelling import load_speller
from lact_asr_model.errors import UserError
from lact_asr_model.text import normalize_text


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inflect", None)
    with pytest.raises(UserError, match=r'^--normalize: .*pip install "lact-asr\[normalize\]"`$'):
        load_speller()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he has 3 dogs, 21 cats & 105 fish", "HE HAS THREE DOGS TWENTY ONE CATS AND ONE HUNDRED AND FIVE FISH"),
        ("1,234.5 litres", "ONE THOUSAND TWO HUNDRED AND THIRTY FOUR POINT FIVE LITRES"),
        ("0 and 0.05", "ZERO AND ZERO POINT ZERO FIVE"),
        ("in 1984, 1905, 1900 or 2010", "IN NINETEEN EIGHTY FOUR NINETEEN OH FIVE NINETEEN HUNDRED OR TWENTY TEN"),
        ("in 2005 and 1066", "IN TWO THOUSAND AND FIVE AND ONE THOUSAND AND SIXTY SIX"),
        ("the 1980s, the '90s", "THE NINETEEN EIGHTIES THE ' NINETIES"),
        ("the 1st, 22nd and 100TH", "THE FIRST TWENTY SECOND AND ONE HUNDREDTH"),
        ("50% of 3.5 %", "FIFTY PERCENT OF THREE POINT FIVE PERCENT"),
        ("$5, $1, $2.50, $0.01", "FIVE DOLLARS ONE DOLLAR TWO DOLLARS AND FIFTY CENTS ONE CENT"),
        ("£3.20, 10 €, €2.5 million", "THREE POUNDS AND TWENTY PENCE TEN EUROS TWO POINT FIVE MILLION EUROS"),
        ("$1,000 or £1", "ONE THOUSAND DOLLARS OR ONE POUND"),
        ("at 10:30, 9:05 and 7:00", "AT TEN THIRTY NINE OH FIVE AND SEVEN O'CLOCK"),
        ("agent 007 at 5551234", "AGENT ZERO ZERO SEVEN AT FIVE FIVE FIVE ONE TWO THREE FOUR"),
        ("-5° or a well-known 3-D", "MINUS FIVE DEGREES OR A WELL KNOWN THREE D"),
        ("1½ + 2 = #1 @ R&D", "ONE AND A HALF PLUS TWO EQUALS NUMBER ONE AT R AND D"),
        ("nothing to do here, don't!", "NOTHING TO DO HERE DON'T"),
    ],
)  # fmt: skip
def test_numbers_and_symbols_are_read_as_people_read_them(text: str, expected: str) -> None:
    pytest.importorskip("inflect", reason="the normalize extra is not installed")
    assert normalize_text(load_speller()(text)) == expected.replace(" ' ", " ")


def test_no_number_survives() -> None:
    pytest.importorskip("inflect", reason="the normalize extra is not installed")
    spell_out = load_speller()
    for number in [*range(2200), 10**5, 10**9, "1,000,000", "12.", ".5", "1.2.3", "10:99", "99th%", "1,2", "5s", "00s"]:
        assert re.search(r"\d", spell_out(f"a{number}b {number}")) is None, number
