"""The examples of a page of the documentation, run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def run_examples(page: str, least: int) -> None:
    """Run a page's examples one after the other, as one program.

    Args:
        page: its file's name in docs/.
        least: how many there are at least, so that a page whose examples are not found does not pass.
    """
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    path = DOCS / page
    text = path.read_text().replace("```\n", "\n")
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, page, str(path), 0)
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert results.attempted >= least
    assert not results.failed, "".join(said)
