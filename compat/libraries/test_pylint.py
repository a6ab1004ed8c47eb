"""pylint -j 2, over a package."""

from __future__ import annotations

import json

from compat.libraries.programs import Programs


def test_same_messages(programs: Programs) -> None:
    assert programs.copy_package(json.__name__) > 4
    ours, plain = programs.both("-m", "pylint", "-j", "2", "--disable=duplicate-code", "json")
    assert ours.files == plain.files
    assert ours.err == plain.err
    # The workers share the files out as they get to them, so the order of files is nobody's.
    assert sorted(ours.out.splitlines()) == sorted(plain.out.splitlines())
    assert ours.code == plain.code != 0
    assert "missing-function-docstring" in ours.out
