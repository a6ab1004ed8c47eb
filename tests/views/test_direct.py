"""DirectViews: calls on each engine, names, sequences, code."""

from __future__ import annotations

import functools
import operator
import pickle
import time
from pathlib import Path
from typing import Any

import numpy
import pytest

import zexec
from tests.helpers import tasks


def fail_on(value: Any, bad: Any) -> Any:
    if value == bad:
        raise LookupError(f"{value} is bad")
    return value


# -- calls -----------------------------------------------------------------------------------------------------------


def test_apply(client: zexec.Client) -> None:
    one, view = client[0], client[:]
    result = view.apply(tasks.add, 1, y=2)
    assert isinstance(result, zexec.AsyncResult)
    assert result.get(20) == [3, 3]
    assert one.apply_async(tasks.add, 1).get(20) == 101
    assert one.apply_sync(tasks.add, 1) == 101
    assert client[[0]].apply_sync(tasks.add, 1) == [101]
    one.block = True
    assert one.apply(tasks.add, 1) == 101


def test_arguments_of_any_name(one: zexec.DirectView) -> None:
    assert one.apply(lambda **kwargs: kwargs, f=5, self=6, block=7) == {"f": 5, "self": 6, "block": 7}


def test_flags(client: zexec.Client) -> None:
    view = client[0]
    with view.temp_flags(block=True):
        assert view.apply(tasks.double, 1) == 2
    assert view.block is False
    assert view.set_flags(block=True, track=True, timeout=5) is view
    assert (view.block, view.track, view.timeout) == (True, True, 5)
    with pytest.raises(KeyError, match="no flag 'blok': there are block, track, targets, timeout"):
        view.set_flags(blok=True)
    with pytest.raises(ZeroDivisionError), view.temp_flags(block=False):
        raise ZeroDivisionError
    assert view.block is True


def test_timeout(one: zexec.DirectView) -> None:
    one.timeout = 0.2
    with pytest.raises(zexec.RemoteError, match=r"longer than its time-out of 0\.2") as caught:
        one.apply(time.sleep, 30)
    assert isinstance(caught.value.__cause__, zexec.TimeoutError)


def test_arguments_that_cannot_be_pickled_raise_at_the_call(one: zexec.DirectView) -> None:
    with pytest.raises(TypeError, match="generator"):
        one.apply_async(tasks.double, (x for x in ()))


def test_results_that_cannot_be_pickled(one: zexec.DirectView) -> None:
    with pytest.raises(zexec.RemoteError, match="generator"):
        one.apply(lambda: (x for x in ()))


def test_arrays_are_read_only_unless_copied(one: zexec.DirectView) -> None:
    array = numpy.zeros(3)

    def setter(a: Any) -> Any:
        a[0] = 1
        return a

    with pytest.raises(zexec.RemoteError, match="read-only"):
        one.apply(setter, array)
    back = one.apply(lambda a: a, array)
    assert not back.flags.writeable
    assert (back == array).all()
    with one.temp_flags(copy=True):
        back = one.apply(setter, array)
    assert back.flags.writeable
    assert back[0] == 1
    assert array[0] == 0


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float64", object, [("n", int), ("s", "S10")]])
def test_arrays_of_all_kinds(one: zexec.DirectView, dtype: Any) -> None:
    array = numpy.zeros((4, 3), dtype)[::2]
    back = one.apply(lambda a: a, array)
    assert back.dtype == array.dtype
    assert (back == array).all()


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_of_one_engine(client: zexec.Client) -> None:
    client[:].scatter("n", client.ids, flatten=True)
    result = client[:].apply(fail_on, zexec.Reference("n"), 1)
    with pytest.raises(zexec.CompositeError, match=r"\[engine 1, pid \d+ on .*\] LookupError: 1 is bad") as caught:
        result.get(20)
    (error,) = caught.value.errors
    assert isinstance(error, zexec.RemoteError)
    assert isinstance(error.__cause__, LookupError)
    assert (error.engine_id, error.ename, error.evalue) == (1, "LookupError", "1 is bad")
    assert error.engine_info["method"] == "apply"
    assert "in fail_on" in error.traceback
    assert "namespace.py" not in error.traceback
    assert caught.value.__cause__ is error
    assert caught.value.elist[0][:2] == ("LookupError", "1 is bad")
    assert result.get(return_exceptions=True) == [0, error]
    assert [m.status for m in result.metadata] == ["ok", "error"]
    with pytest.raises(zexec.RemoteError):
        caught.value.raise_exception()
    with pytest.raises(IndexError, match="there are 1"):
        caught.value.raise_exception(3)


def test_a_view_of_one_engine_raises_it_as_it_is(one: zexec.DirectView) -> None:
    with pytest.raises(zexec.RemoteError) as caught:
        one.apply(fail_on, 1, 1)
    assert not isinstance(caught.value, zexec.CompositeError)
    with pytest.raises(LookupError):
        caught.value.raise_exception()


def test_errors_print_their_tracebacks(all: zexec.DirectView, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(zexec.CompositeError) as caught:
        all.apply(fail_on, 1, 1)
    caught.value.print_traceback()
    assert capsys.readouterr().out.count("LookupError: 1 is bad") == 2
    caught.value.print_traceback(1)
    assert "[engine 1" in capsys.readouterr().out
    assert repr(caught.value) == "CompositeError(2)"


def test_errors_can_be_pickled(all: zexec.DirectView) -> None:
    import pickle

    with pytest.raises(zexec.CompositeError) as caught:
        all.apply(fail_on, 1, 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.errors[0].engine_info == caught.value.errors[0].engine_info


def test_a_lost_engine(client: zexec.Client) -> None:
    """It is that engine's error; what the others gave stays."""
    import os

    client[:].scatter("n", client.ids, flatten=True)
    result = client[:].apply(lambda n: os._exit(3) if n else n, zexec.Reference("n"))
    with pytest.raises(zexec.CompositeError, match=r"\[engine 1, .*EngineDied: .*exit code 3"):
        result.get(20)
    values = result.get(return_exceptions=True)
    assert values[0] == 0
    assert isinstance(values[1].__cause__, zexec.EngineDied)
    assert client[1].apply_sync(tasks.double, 1) == 2  # another has taken its place


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exits_are_errors_as_others(one: zexec.DirectView, kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind("bye")

    with pytest.raises(zexec.RemoteError, match=kind.__name__):
        one.apply(leave)
    assert one.apply(tasks.double, 1) == 2


# -- names -----------------------------------------------------------------------------------------------------------


def test_push_pull(client: zexec.Client) -> None:
    data = {"a": 10, "b": 1.05, "c": list(range(10)), "d": {"e": (1, 2), "f": "hi"}}
    one, view = client[-1], client[:]
    one.push({"data": data}, block=True)
    assert one.pull("data", block=True) == data
    assert view.push({"data": data}).get(20) == [None, None]
    assert view.pull("data").get(20) == [data, data]
    view.push({"a": 10, "b": 20})
    assert view.pull(("a", "b"), block=True) == [[10, 20]] * 2
    assert view.pull("a", targets=0, block=True) == 10
    assert one.get(["a", "b"]) == [10, 20]


def test_like_a_dict(all: zexec.DirectView) -> None:
    all["a"] = ["foo", "bar"]
    assert all["a"] == [["foo", "bar"]] * 2
    all.update({"a": 1, "b": 2})
    assert all.get("b") == [2, 2]
    del all["a"]
    with pytest.raises(zexec.CompositeError, match="NameError: name 'a' is not defined"):
        all["a"]
    with pytest.raises(zexec.CompositeError, match="NameError"):
        del all["a"]


def test_names_with_dots(one: zexec.DirectView) -> None:
    one.execute("import types; n = types.SimpleNamespace(x=1)").get()
    one["n.y"] = 2
    assert one["n.x + n.y"] == 3


def test_what_is_no_name(one: zexec.DirectView) -> None:
    with pytest.raises(TypeError, match="in a dict"):
        one.push([("a", 1)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a string"):
        one.push({1: 2})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="must be a string"):
        one.pull(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a string"):
        one.pull(["a", 1])  # type: ignore[list-item]


# -- scatter and gather ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("seq", [[1, 2, 3, 4, 5], (1, 2, 3), range(7), "a text", "array"])
def test_scatter_gather(client: zexec.Client, seq: Any, dist: str) -> None:
    view = client[:]
    if seq == "array":
        seq = numpy.arange(6).reshape(3, 2)
    result = view.scatter("x", seq, dist=dist)
    assert result is not None
    assert result.get(20) == [None, None]
    back = view.gather("x", dist=dist).get(20)
    if isinstance(seq, numpy.ndarray):
        assert (back == seq).all()
    else:
        assert back == (seq if isinstance(seq, str) else list(seq))


def test_scatter_as_on_the_page(client: zexec.Client) -> None:
    view = client.direct_view("all")
    assert view.scatter("a", list(range(16)), block=True) is None
    assert view["a"] == [list(range(8)), list(range(8, 16))]
    assert view.gather("a", block=True) == list(range(16))
    with pytest.raises(zexec.CompositeError, match="NameError"):
        view.gather("asdf", block=True)


def test_flatten(client: zexec.Client) -> None:
    view = client[:]
    view.scatter("n", client.ids, flatten=True, block=True)
    assert view["n"] == [0, 1]
    assert view.gather("n", block=True) == [0, 1]


def test_more_engines_than_items(all: zexec.DirectView) -> None:
    all.scatter("x", [1])
    assert all["x"] == [[1], []]
    assert all.gather("x") == [1]


# -- map and reduce --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dist", ["b", "r"])
def test_map(client: zexec.Client, dist: str) -> None:
    view = client[:]
    result = view.map(lambda x: x**2, range(101), dist=dist)
    assert len(result) == 101
    assert result.get(20) == [x**2 for x in range(101)]
    assert result.progress == 101


def test_map_of_all_kinds(all: zexec.DirectView) -> None:
    assert all.map(tasks.double, []) == []
    assert all.map(tasks.double, iter(range(5))) == [0, 2, 4, 6, 8]
    assert all.map(tasks.add, range(5), [1, 1, 1]) == [1, 2, 3]
    assert all.map(tasks.double, "ab") == ["aa", "bb"]
    assert all.map_sync(tasks.double, numpy.arange(3)) == [0, 2, 4]
    assert list(all.imap(tasks.double, range(3))) == [0, 2, 4]
    with pytest.raises(TypeError, match="takes no 'block'"):
        all.map_async(tasks.double, [], block=True)
    with pytest.raises(TypeError, match="at least one sequence"):
        all.map(tasks.double)


def test_errors_in_a_map(all: zexec.DirectView) -> None:
    with pytest.raises(zexec.CompositeError, match="3 is bad"):
        all.map(functools.partial(fail_on, bad=3), range(10))
    values = all.map(functools.partial(fail_on, bad=3), range(10), return_exceptions=True)
    assert isinstance(values[3], zexec.RemoteError)
    assert isinstance(values[3].__cause__, LookupError)
    assert values[:3] + values[4:] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_reduce(all: zexec.DirectView) -> None:
    assert all.reduce(operator.add, range(101)) == 5050
    assert all.reduce(lambda a, b: a * b, [1, 2, 3], 10) == 60
    assert all.reduce(operator.add, [], 3) == 3
    assert all.reduce(operator.add, "abc") == "abc"
    with pytest.raises(TypeError):
        all.reduce(operator.add, [])


# -- code ------------------------------------------------------------------------------------------------------------


def test_execute(client: zexec.Client) -> None:
    view = client[:]
    result = view.execute("c = 30")
    assert [reply.engine_id for reply in result.get(20)] == [0, 1]
    assert [reply.execute_result for reply in result.get(20)] == [None, None]
    assert view["c"] == [30, 30]
    assert view.execute("d = c + 1", block=True) is not None
    assert client[0]["d"] == 31
    client[0].execute("a = 'é'", block=True)
    assert client[0]["a"] == "é"
    with pytest.raises(TypeError, match="must be a string"):
        view.execute(3)  # type: ignore[arg-type]


def test_execute_shows_where_it_failed(one: zexec.DirectView) -> None:
    with pytest.raises(zexec.RemoteError) as caught:
        one.execute("x = 1\ndef f():\n    return 1 / 0\nf()")
    assert "return 1 / 0" in caught.value.traceback
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(zexec.RemoteError, match="SyntaxError"):
        one.execute("x =")


def test_what_code_prints_and_shows(all: zexec.DirectView, capfd: pytest.CaptureFixture[str]) -> None:
    result = all.execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7", silent=False)
    assert result.stdout == ["out\n", "out\n"]
    assert result.stderr == ["err\n", "err\n"]
    assert result["pyout"] == ["42", "42"]
    assert capfd.readouterr() == ("", "")
    result.display_outputs()
    out, err = capfd.readouterr()
    numbers = [reply.execution_count for reply in result.get(20)]
    assert out == "[stdout:0]\nout\n[stdout:1]\nout\n" + "".join(f"Out[{i}:{n}]: 42\n" for i, n in enumerate(numbers))
    assert err == "[stderr:0]\nerr\n[stderr:1]\nerr\n"
    result.display_outputs("engine")
    out, _ = capfd.readouterr()
    assert out.startswith(f"[stdout:0]\nout\nOut[0:{numbers[0]}]: 42\n[stdout:1]")
    result.display_outputs(result_only=True)
    assert capfd.readouterr() == ("".join(f"Out[{i}:{n}]: 42\n" for i, n in enumerate(numbers)), "")
    with pytest.raises(ValueError, match="type, engine, order"):
        result.display_outputs("nothing")


def test_a_reply(one: zexec.DirectView) -> None:
    result = one.execute("print('here')\n'x' * 40", silent=False)
    reply = result.get()
    assert repr(reply) == f"<ExecuteReply[{reply.execution_count}]: '{'x' * 28}...>"
    assert (reply.stdout, reply.stderr, reply.outputs) == ("here\n", "", [])
    assert reply.execute_result["data"] == {"text/plain": repr("x" * 40)}
    assert result.execute_result == reply.execute_result
    assert result.execute_input == "print('here')\n'x' * 40"
    assert pickle.loads(pickle.dumps(reply)) == reply
    assert reply != one.execute("1", silent=False).get()
    assert one.execute("1").get().execute_result is None


def test_what_a_failing_task_printed(one: zexec.DirectView) -> None:
    result = one.apply_async(lambda: (print("before"), 1 / 0))
    with pytest.raises(zexec.RemoteError):
        result.get(20)
    assert result.stdout == "before\n"


def test_run(one: zexec.DirectView, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("def g():\n    return 5\n    ")
    one.run(str(file))
    assert one.apply(lambda f: f(), zexec.Reference("g")) == 5
    file.write_text("1 / 0\n")
    with pytest.raises(zexec.RemoteError, match=r"code\.py"):
        one.run(str(file))


def test_sync_imports(all: zexec.DirectView, capsys: pytest.CaptureFixture[str]) -> None:
    import builtins

    plain = builtins.__import__
    with all.sync_imports():
        import colorsys
        from bisect import bisect_left
    assert builtins.__import__ is plain
    assert colorsys
    assert bisect_left
    assert "import colorsys on engines 0, 1" in capsys.readouterr().out
    assert all.apply(lambda: globals()["colorsys"].__name__) == ["colorsys"] * 2
    assert all["bisect_left([1, 2], 2)"] == [1, 1]
    with all.importer:
        import re
    assert all.apply(lambda: globals()["re"].findall(r"\w+", "hello world")) == [["hello", "world"]] * 2
    assert re


# -- decorators ------------------------------------------------------------------------------------------------------


def test_remote(all: zexec.DirectView) -> None:
    @all.remote()
    def where(x: int, y: int = 2) -> int:
        """Adds."""
        return x + y

    import inspect

    assert where(1) == [3, 3]
    assert where(1, y=5) == [6, 6]
    assert (where.__name__, where.__doc__) == ("where", "Adds.")
    assert str(inspect.signature(where)) == "(x: 'int', y: 'int' = 2) -> 'int'"
    assert zexec.remote(all, block=False)(tasks.double)(2).get(20) == [4, 4]
    assert where.func(1) == 3


def test_parallel(all: zexec.DirectView) -> None:
    @all.parallel()
    def part(numbers: Any) -> Any:
        return [len(numbers)] * len(numbers)

    assert part(range(5)) == [3, 3, 3, 2, 2]
    assert part.map([[1], [1, 2]]) == [[1], [2, 2]]
    assert (zexec.parallel(all, dist="r")(lambda a: a * 2)(numpy.arange(5)) == numpy.arange(5) * 2).all()
    assert part([]) == []
    with pytest.raises(ValueError, match="same length"):
        zexec.parallel(all)(tasks.add)([1], [1, 2])
    with pytest.raises(TypeError, match="no keywords"):
        part(numbers=[1])
    with pytest.raises(ValueError, match="dist must be"):
        all.parallel(dist="z")(tasks.double)
