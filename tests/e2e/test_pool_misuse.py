"""Misuse raises what the stdlib's Pool raises, class and message: each case is done to both."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

CTX = multiprocessing.get_context("fork")

Make = Callable[..., Any]


def outcome(act: Callable[[Any], Any], make: Make) -> tuple[type[BaseException], str]:
    with pytest.raises(BaseException) as caught:
        act(make)
    return caught.type, str(caught.value)


def ours(*args: Any, **kwargs: Any) -> Any:
    return zexec.Pool(*args, context=CTX, **kwargs)


CONSTRUCTING: dict[str, Callable[[Make], Any]] = {
    "no processes": lambda make: make(0),
    "fewer than no processes": lambda make: make(-3),
    "processes is text": lambda make: make("2"),
    "processes is a float": lambda make: make(2.5),
    "initializer is no callable": lambda make: make(1, 5),
    "initializer is text": lambda make: make(1, initializer="f"),
    "an unknown argument": lambda make: make(1, tasks_per_child=3),
}


@pytest.mark.parametrize("case", CONSTRUCTING)
def test_constructing(case: str) -> None:
    act = CONSTRUCTING[case]
    expected = outcome(act, CTX.Pool)
    got = outcome(act, ours)
    if case == "an unknown argument":  # the stdlib's names its factory there
        assert got[0] is expected[0]
        assert "tasks_per_child" in got[1]
    else:
        assert got == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, "3"])
def test_maxtasksperchild(value: Any) -> None:
    assert outcome(lambda make: make(1, maxtasksperchild=value), ours) == outcome(
        lambda make: make(1, maxtasksperchild=value), CTX.Pool
    )


CALLING: dict[str, Callable[[Any], Any]] = {
    "join while it runs": lambda p: p.join(),
    "map over a number": lambda p: p.map(tasks.double, 5),
    "map_async over None": lambda p: p.map_async(tasks.double, None),
    "starmap over a number": lambda p: p.starmap(tasks.double, 5),
    "imap over a number": lambda p: next(p.imap(tasks.double, 5)),
    "imap over a number in chunks": lambda p: next(p.imap(tasks.double, 5, 3)),
    "imap with chunksize 0": lambda p: p.imap(tasks.double, [1], 0),
    "imap with a negative chunksize": lambda p: p.imap(tasks.double, [1], -5),
    "imap_unordered with chunksize 0": lambda p: p.imap_unordered(tasks.double, [1], chunksize=0),
    "map without an iterable": lambda p: p.map(tasks.double),
    "apply of None": lambda p: p.apply(None),
    "apply of a number": lambda p: p.apply(5),
    "apply with too few arguments": lambda p: p.apply(tasks.double),
    "apply with args that are no iterable": lambda p: p.apply(tasks.double, 5),
    "starmap over numbers": lambda p: p.starmap(tasks.double, [1, 2]),
    "map of None": lambda p: p.map(None, [1]),
    "map of too many arguments": lambda p: p.map(tasks.in_main_thread, [1]),
    "pickled": lambda p: pickle.dumps(p),
    "passed to an engine": lambda p: p.apply(tasks.double, (p,)),
    "successful too early": lambda p: p.apply_async(tasks.nap, (0.2,)).successful(),
    "get too early": lambda p: p.apply_async(tasks.nap, (0.2,)).get(0.01),
}


@pytest.mark.parametrize("case", CALLING)
def test_calling(case: str) -> None:
    act = CALLING[case]

    def use(make: Make) -> None:
        with make(1) as pool:
            act(pool)

    expected, got = outcome(use, CTX.Pool), outcome(use, ours)
    if case == "successful too early":
        assert issubclass(got[0], expected[0])
        assert got[1].endswith(" not ready")
        assert expected[1].endswith(" not ready")
    elif case == "map without an iterable":
        assert (got[0], got[1].partition(".")[2]) == (expected[0], expected[1].partition(".")[2])
    elif case == "get too early":
        assert issubclass(got[0], expected[0])
    elif case == "apply with args that are no iterable":
        # The engine fails at it in the stdlib, the call itself does here.
        assert got[0] is expected[0]
    else:
        assert got == expected


CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda p: p.apply(tasks.double, (1,)),
    "apply_async": lambda p: p.apply_async(tasks.double, (1,)),
    "map": lambda p: p.map(tasks.double, [1]),
    "map of nothing": lambda p: p.map(tasks.double, []),
    "map_async": lambda p: p.map_async(tasks.double, [1]),
    "starmap": lambda p: p.starmap(tasks.double, [(1,)]),
    "starmap_async": lambda p: p.starmap_async(tasks.double, [(1,)]),
    "imap": lambda p: p.imap(tasks.double, [1]),
    "imap in chunks": lambda p: p.imap(tasks.double, [1], 3),
    "imap_unordered": lambda p: p.imap_unordered(tasks.double, [1]),
    "enter": lambda p: p.__enter__(),
}


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("case", CALLS)
def test_after_the_end(case: str, end: str) -> None:
    def use(make: Make) -> None:
        pool = make(1)
        getattr(pool, end)()
        try:
            CALLS[case](pool)
        finally:
            pool.join()

    expected = outcome(use, CTX.Pool)
    assert expected == (ValueError, "Pool not running")
    assert outcome(use, ours) == expected


def test_initargs_that_are_no_iterable() -> None:
    """The stdlib's respawns its workers for ever."""
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        zexec.Pool(1, tasks.remember, 5)  # type: ignore[arg-type]


def test_a_closed_pool_refuses_a_with() -> None:
    def use(make: Make) -> None:
        pool = make(1)
        with pool:
            pass
        pool.join()
        with pool:
            pass

    assert outcome(use, ours) == outcome(use, CTX.Pool)


def test_the_input_of_a_refused_call_is_not_drawn() -> None:
    with zexec.Pool(1, context=CTX) as pool:
        pool.close()
        log: list[int] = []
        with pytest.raises(ValueError, match="Pool not running"):
            pool.map(tasks.double, tasks.counting(5, log))
        assert log == []
        pool.join()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_with_an_impossible_chunksize(chunksize: int) -> None:
    """The stdlib's hangs, or divides by zero in a thread; ours says so."""
    with zexec.Pool(1, context=CTX) as pool, pytest.raises(ValueError, match="chunksize must be 1 or more"):
        pool.map(tasks.double, [1, 2], chunksize)


@pytest.mark.parametrize("buffersize", [0, -1, 1.5, "2", True])
def test_buffersize(buffersize: Any) -> None:
    with zexec.Pool(1, context=CTX) as pool:
        if isinstance(buffersize, int) and not isinstance(buffersize, bool):
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                pool.imap(tasks.double, [1], buffersize=buffersize)
        else:
            with pytest.raises(TypeError, match="buffersize must be an integer or None"):
                pool.imap(tasks.double, [1], buffersize=buffersize)


def test_on_engine_death_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="on_engine_death must be one of replace, break"):
        zexec.Pool(1, context=CTX, on_engine_death="ignore")


def test_signatures_are_the_stdlibs_and_additions_are_keyword_only() -> None:
    import inspect

    stdlib = multiprocessing.pool.Pool
    names = [n for n in vars(stdlib) if not n.startswith("_") and inspect.isfunction(getattr(stdlib, n))]
    for name in [*names, "__init__"]:
        theirs = list(inspect.signature(getattr(stdlib, name)).parameters.values())
        mine = list(inspect.signature(getattr(zexec.Pool, name)).parameters.values())
        more = [p.name for p in mine if p.name not in {t.name for t in theirs}]
        assert all(p.kind is p.KEYWORD_ONLY for p in mine if p.name in more), name
        same = [p.name for p in mine if p.name not in more]
        assert same == [t.name for t in theirs], (name, sys.version)
        assert [p.kind for p in mine if p.name not in more] == [t.kind for t in theirs], name
