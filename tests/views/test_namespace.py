"""Whose names a view's functions see, in both directions: design §5."""

from __future__ import annotations

from typing import Any

import pytest

import zexec
from tests.helpers import tasks
from tests.helpers.scripts import Scripts

OURS = "the client's"
BOTH = "the client's, too"


def helper() -> str:
    return OURS


def test_names_the_engine_has_win(all: zexec.DirectView) -> None:
    all["BOTH"] = "the engine's"
    assert all.apply(lambda: BOTH) == ["the engine's"] * 2


def test_names_it_lacks_come_from_the_client_and_do_not_stay(all: zexec.DirectView) -> None:
    assert all.apply(lambda: OURS) == [OURS] * 2
    with pytest.raises(zexec.CompositeError, match=r"\[engine 0, .*NameError: name 'OURS' is not defined"):
        all["OURS"]
    with pytest.raises(zexec.CompositeError, match="NameError"):
        all.execute("OURS").get()


def test_captured_at_the_call(one: zexec.DirectView, monkeypatch: pytest.MonkeyPatch) -> None:
    f = lambda: OURS  # noqa: E731
    assert one.apply(f) == OURS
    monkeypatch.setitem(globals(), "OURS", "changed")
    assert one.apply(f) == "changed"


def test_as_soon_as_the_engine_has_it(one: zexec.DirectView) -> None:
    f = lambda: OURS  # noqa: E731
    assert one.apply(f) == OURS
    one["OURS"] = 1
    assert one.apply(f) == 1
    del one["OURS"]
    assert one.apply(f) == OURS


def test_the_page_says_lambda_is_pull(one: zexec.DirectView) -> None:
    one["a"] = 5
    assert one.apply(lambda: a) == one.pull("a") == 5  # type: ignore[name-defined]  # noqa: F821


def test_global_writes_to_the_namespace(one: zexec.DirectView) -> None:
    def write(value: Any) -> Any:
        global written
        written = value
        return written, globals()["written"]

    assert one.apply(write, 3) == (3, 3)
    assert one["written"] == 3
    assert "written" not in globals()


def test_global_writes_even_what_the_client_has(one: zexec.DirectView) -> None:
    """Also the very value that was captured: what was written stays, what was only read does not."""

    def write() -> None:
        global OURS
        OURS = OURS

    one.apply(write)
    assert one["OURS"] == OURS


def test_global_deletes(one: zexec.DirectView) -> None:
    def delete() -> None:
        global gone
        del gone

    one["gone"] = 1
    one.apply(delete)
    with pytest.raises(zexec.RemoteError, match="NameError"):
        one["gone"]


@pytest.mark.parametrize("wrap", ["generator", "list", "lambda"])
def test_functions_inside(one: zexec.DirectView, wrap: str) -> None:
    f = {
        "generator": lambda: [OURS, OURS][:1],
        "list": lambda: [OURS for _ in range(1)],
        "lambda": lambda: [(lambda: OURS)()],
    }[wrap]
    assert one.apply(f) == [OURS]
    one["OURS"] = "engine's"
    assert one.apply(f) == ["engine's"]


def test_a_helper_that_comes_along_sees_it_too(one: zexec.DirectView) -> None:
    f = lambda: (lambda: inner())()  # type: ignore[name-defined]  # noqa: E731, F821
    with pytest.raises(zexec.RemoteError, match="NameError: name 'inner' is not defined"):
        one.apply(f)
    one["inner"] = lambda: OURS
    assert one.apply(f) == OURS  # pushed with what it captured
    one["OURS"] = 2
    assert one.apply(f) == 2


def test_functions_by_reference_have_their_modules_globals(one: zexec.DirectView) -> None:
    one["OURS"] = "engine's"
    assert one.apply(helper) == OURS
    assert one.apply(tasks.double, 4) == 8


def test_interactive(one: zexec.DirectView) -> None:
    def local() -> Any:
        return globals()["a"]

    one["a"] = 1
    assert one.apply(zexec.interactive(local)) == 1
    made = zexec.interactive(type(helper)(helper.__code__, globals(), "helper"))
    one["OURS"] = "engine's"
    assert one.apply(made) == "engine's"


def test_recursion_defaults_closures(one: zexec.DirectView) -> None:
    def fact(n: int, base: int = 1) -> int:
        return base if n <= 1 else n * fact(n - 1)

    step = 3

    def later(x: int, *, by: int = 10) -> int:
        return x + step * by

    assert one.apply(fact, 5) == 120
    assert one.apply(later, 1) == 31
    assert one.apply(later, 1, by=1) == 4


def test_no_call_changes_a_function_for_the_next(one: zexec.DirectView) -> None:
    def count(seen: list[int] = []) -> int:
        seen.append(1)
        return len(seen)

    assert [one.apply(count) for _ in range(3)] == [1, 1, 1]


def test_push_pull_functions(one: zexec.DirectView) -> None:
    def f(x: float) -> float:
        return 2.0 * x

    one.push({"f": f})
    assert one.pull("f")(1.0) == 2.0
    one.execute("r = f(10)").get()
    assert one["r"] == 20.0
    one.execute("def g(x): return x * x").get()
    pulled = one.pull(("f", "g"))
    assert (pulled[0](10), pulled[1](10)) == (20, 100)


def test_a_pushed_function_sees_what_comes_later(one: zexec.DirectView) -> None:
    one["f"] = lambda: later_name  # type: ignore[name-defined]  # noqa: F821
    with pytest.raises(zexec.RemoteError, match="later_name"):
        one.execute("b = f()").get()
    one.execute("later_name = 5").get()
    one.execute("b = f()").get()
    assert one["b"] == 5


def test_namespaces_are_apart(client: zexec.Client) -> None:
    client[0].push({"x": 0}, block=True)
    client[1].push({"x": 1}, block=True)
    assert client[:].get("x") == [0, 1]


def test_clear(all: zexec.DirectView) -> None:
    all["x"] = 1
    all.clear()
    with pytest.raises(zexec.CompositeError, match="NameError"):
        all["x"]
    assert all.apply(lambda: len([1])) == [1, 1]  # builtins are still there


def test_classes_of_the_namespace_come_back(one: zexec.DirectView) -> None:
    one.execute("class Made:\n    value = 3\nmade = Made()").get()
    assert one["made"].value == 3


def test_pools_know_nothing_of_it(pool: zexec.Pool, one: zexec.DirectView) -> None:
    one["OURS"] = 1
    assert pool.options(targets=0).apply(lambda: OURS) == OURS


def test_functions_of_a_script_see_the_namespace(scripts: Scripts, method: str) -> None:
    """By value under every start method, though engines could import them."""
    printed = scripts.good(
        f"""
        import multiprocessing, zexec
        mine, other = "script's", 1
        def read(): return mine, other, helper()
        def helper(): return mine
        if __name__ == "__main__":
            with zexec.Pool(1, context=multiprocessing.get_context({method!r})) as pool:
                view = pool.client[0]
                print(*view.apply_sync(read))
                view["mine"] = "engine's"
                print(*view.apply_sync(read))
            pool.join()
        """
    )
    assert printed.splitlines() == ["script's 1 script's", "engine's 1 engine's"]
