"""Functions for engines to run, which leave a mark of where they ran."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

#: names the folder for the marks; engines inherit it
FOLDER = "ZEXEC_COMPAT_MARKS"


def here() -> None:
    """Leave a mark of this process."""
    Path(os.environ[FOLDER], str(os.getpid())).touch()


def rosenbrock(x: Any) -> float:
    here()
    return float(sum(100.0 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))


def square(x: Any) -> Any:
    here()
    return x * x


def fail(x: int) -> int:
    here()
    if x == 3:
        raise LookupError(x)
    return x
