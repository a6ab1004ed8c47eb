"""Run the tests of libraries: ``python -m compat.libraries NAME… [pytest's options]``.

A name may be that of a tox environment, lib-NAME-newest; lib-fast stands for those that are quick.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAST = ("asyncio", "compileall", "joblib", "tqdm")


def main(arguments: list[str]) -> int:
    args = ["-c", str(HERE / "pytest.ini")]
    for argument in arguments:
        if argument == "lib-fast":
            args += ["-m", "not slow", *map(test_file, FAST)]
        elif argument.startswith("-") or not (HERE / f"test_{library(argument)}.py").exists():
            args.append(argument)
        else:
            args.append(test_file(library(argument)))
    return pytest.main(args)


def library(name: str) -> str:
    return name.removeprefix("lib-").removesuffix("-oldest").removesuffix("-newest")


def test_file(name: str) -> str:
    return str(HERE / f"test_{name}.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
