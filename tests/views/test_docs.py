"""The examples of docs/views.md, as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

VIEWS = Path(__file__).parents[2] / "docs" / "views.md"


def test_the_examples_of_the_page(nothing_left: Any) -> None:
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    text = VIEWS.read_text().replace("```\n", "\n")
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, "views.md", str(VIEWS), 0)
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert results.attempted > 50
    assert not results.failed, "".join(said)
