"""The examples in docs/ run as they are, on the stdlib and on zexec; small ones here."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "args", "stdlib", "ours"),
    [
        ("wordcount.py", ("6", "0.5"), "multiprocessing.pool.Pool", "zexec.pool.Pool"),
        (
            "sweep.py",
            ("2",),
            "concurrent.futures.process.ProcessPoolExecutor",
            "zexec.executor.ProcessPoolExecutor",
        ),
    ],
)
def test_example(programs, name, args, stdlib, ours):
    script = str(EXAMPLES / name)
    for run, runner in ((programs.plain, stdlib), (programs.ours, ours)):
        ran = run(script, *args)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[-1] == f"ran on {runner}"
