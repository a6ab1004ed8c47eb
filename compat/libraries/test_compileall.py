"""compileall -j 2: the same files: headers, and every constant and instruction in them."""

from __future__ import annotations

import email
import json
import sys
import wsgiref

from compat.libraries.programs import Programs


def test_same_files(programs: Programs) -> None:
    assert programs.copy_package(email.__name__) > 20
    ours, plain = programs.both("-m", "compileall", "-j", "2", "-q", ".")
    assert ours[:4] == plain[:4]
    assert ours.code == 0
    assert sum(name.endswith(f"{sys.implementation.cache_tag}.pyc") for name in ours.files) > 20


def test_a_file_that_does_not_compile(programs: Programs) -> None:
    programs.copy_package(wsgiref.__name__)
    (programs.template / "wsgiref" / "wrong.py").write_text("def f(:\n")
    ours, plain = programs.both("-m", "compileall", "-j", "2", "-q", ".")
    assert ours[:4] == plain[:4]
    assert ours.code == 1
    assert "wrong.py" in ours.out


def test_in_a_folder_that_has_a_json(programs: Programs) -> None:
    """``python -m`` looks for modules there first; zexec must not take from there what plain Python would not."""
    programs.copy_package(json.__name__)
    ours, plain = programs.both("-m", "compileall", "-j", "2", "-q", ".")
    assert ours[:4] == plain[:4]
