"""Misuse raises what the stdlib's ProcessPoolExecutor raises: each case is done to both."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

FORK = multiprocessing.get_context("fork")

Make = Callable[..., Any]


def theirs(*args: Any, **kwargs: Any) -> Any:
    return ProcessPoolExecutor(*args, **{"mp_context": FORK, **kwargs})


def ours(*args: Any, **kwargs: Any) -> Any:
    return zexec.Executor(*args, **{"mp_context": FORK, **kwargs})


def outcome(act: Callable[[Any], Any], make: Make) -> tuple[type[BaseException], str]:
    with pytest.raises(BaseException) as caught:
        act(make)
    return caught.type, str(caught.value)


CONSTRUCTING: dict[str, Callable[[Make], Any]] = {
    "no workers": lambda make: make(0),
    "fewer than none": lambda make: make(-1),
    "workers is text": lambda make: make("2"),
    "initializer is no callable": lambda make: make(1, initializer=5),
}
if sys.version_info >= (3, 11):
    CONSTRUCTING |= {
        "no tasks per child": lambda make: make(1, max_tasks_per_child=0),
        "half a task per child": lambda make: make(1, max_tasks_per_child=1.5),
        "tasks per forked child": lambda make: make(1, max_tasks_per_child=1),
    }


@pytest.mark.parametrize("case", CONSTRUCTING)
def test_constructing(case: str) -> None:
    act = CONSTRUCTING[case]
    assert outcome(act, ours) == outcome(act, theirs)


CALLING: dict[str, Callable[[Any], Any]] = {
    "chunksize 0": lambda e: e.map(tasks.double, [1], chunksize=0),
    "map over a number": lambda e: e.map(tasks.double, 5),
    "submit of nothing": lambda e: e.submit(),
    "submit of None": lambda e: e.submit(None).result(10),
    "submit with too few arguments": lambda e: e.submit(tasks.double).result(10),
    "after shutdown: submit": lambda e: (e.shutdown(), e.submit(tasks.double, 1)),
    "after shutdown: map": lambda e: (e.shutdown(), e.map(tasks.double, [1])),
    "result too early": lambda e: e.submit(tasks.nap, 0.2).result(0.01),
    "exception too early": lambda e: e.submit(tasks.nap, 0.2).exception(0.01),
}


@pytest.mark.parametrize("case", CALLING)
def test_calling(case: str) -> None:
    def use(make: Make) -> None:
        with make(1) as executor:
            CALLING[case](executor)

    expected, got = outcome(use, theirs), outcome(use, ours)
    if "too early" in case:
        assert issubclass(got[0], expected[0])
    elif case == "submit of nothing":
        assert (got[0], got[1].partition(".")[2]) == (expected[0], expected[1].partition(".")[2])
    else:
        assert got == expected


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_buffersize(value: Any, error: type[Exception]) -> None:
    """As in the stdlib from 3.14 on."""
    with zexec.Executor(1, mp_context=FORK) as ex, pytest.raises(error, match="buffersize must be"):
        ex.map(tasks.double, [1], buffersize=value)


def test_an_input_that_fails_under_a_buffer(executor: zexec.Executor) -> None:
    it = executor.map(tasks.double, tasks.broken_after(4), buffersize=2)
    seen = []
    with pytest.raises(ZeroDivisionError, match="the input failed"):
        for value in it:
            seen.append(value)
    assert seen == [0, 2, 4, 6][: len(seen)]


def test_on_engine_death_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="on_engine_death must be one of replace, break, not 'ignore'"):
        zexec.Executor(1, mp_context=FORK, on_engine_death="ignore")


def test_signatures_are_the_stdlibs_and_additions_are_keyword_only() -> None:
    import inspect

    for name in ("__init__", "submit", "map", "shutdown"):
        theirs_ = list(inspect.signature(getattr(ProcessPoolExecutor, name)).parameters.values())
        mine = list(inspect.signature(getattr(zexec.Executor, name)).parameters.values())
        known = {p.name for p in theirs_}
        assert all(p.kind in (p.KEYWORD_ONLY,) for p in mine if p.name not in known), name
        assert [p.name for p in mine if p.name in known] == [p.name for p in theirs_], name
