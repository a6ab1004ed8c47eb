"""black, with workers, over a tree of many files."""

from __future__ import annotations

import email
import json

import pytest

from compat.libraries.programs import Programs


@pytest.fixture
def tree(programs: Programs) -> Programs:
    assert programs.copy_package(email.__name__) + programs.copy_package(json.__name__) > 20
    (programs.template / "json" / "wrong.py").write_text("def f(:\n")
    return programs


def test_reformat(tree: Programs) -> None:
    ours, plain = tree.both("-m", "black", "--workers", "2", ".")
    assert ours.files == plain.files
    assert sorted(ours.err.splitlines()) == sorted(plain.err.splitlines())  # a line per file, as they are done
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert ours.code == 123  # for the one that is wrong


def test_check(tree: Programs) -> None:
    ours, plain = tree.both("-m", "black", "--workers", "2", "--check", "--exclude", "wrong", ".")
    assert ours.files == plain.files
    assert sorted(ours.err.splitlines()) == sorted(plain.err.splitlines())
    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert ours.code == 1
