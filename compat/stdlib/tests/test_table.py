"""The table in docs/differences.md says what differences.toml says."""

from __future__ import annotations

from compat.stdlib import table
from compat.stdlib.differences import Difference, read

ENTRY = Difference(("Class.test_a",), "why", "what to do", pythons=("3.13",), start_methods=("fork",))


def test_document_is_up_to_date() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert table.renew(text, read()) == text


def test_an_entry_is_a_line() -> None:
    assert table.table([ENTRY]).splitlines()[-1] == "| why | what to do | `Class.test_a` | Python 3.13; fork |"


def test_renewing_keeps_what_is_around_it() -> None:
    text = table.renew(f"before\n{table.BEGIN}\nstale\n{table.END}\nafter\n", [])
    assert text == f"before\n{table.BEGIN}\n{table.NONE}\n{table.END}\nafter\n"
