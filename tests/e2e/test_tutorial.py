"""The examples of docs/tutorial.md, as they stand."""

from __future__ import annotations

from tests.helpers.pages import run_examples


def test_the_examples_of_the_page() -> None:
    run_examples("tutorial.md", 35)
