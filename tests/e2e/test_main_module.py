"""Functions of the user's own script: by reference where engines have it, by value where there is no script."""

from __future__ import annotations

import pytest

from tests.helpers.scripts import Scripts

#: what every script starts with; METHOD is filled in
HEAD = """
import multiprocessing
from zexec import Pool, Executor
METHOD = "{method}"
"""


def script(method: str, body: str) -> str:
    import textwrap

    return HEAD.replace("{method}", method) + textwrap.dedent(body)


def test_functions_and_initializer_globals(scripts: Scripts, method: str) -> None:
    out = scripts.good(
        script(
            method,
            """
            value = None

            def init(v):
                global value
                value = v

            def f(x):
                return x, value

            class Point:
                def __init__(self, x):
                    self.x = x
                def __eq__(self, other):
                    return self.x == other.x

            def g(p):
                return Point(p.x + 1)

            if __name__ == "__main__":
                with Pool(2, init, ("set",), context=multiprocessing.get_context(METHOD)) as pool:
                    print(pool.map(f, range(3)))
                    print(pool.map(g, [Point(1)]) == [Point(2)])
                    print(pool.apply(f.__class__.__name__.upper))
                    print(list(pool.imap(lambda x: f(x), [5])))
                with Executor(2, multiprocessing.get_context(METHOD), init, ("ex",)) as ex:
                    print(list(ex.map(f, [1])))
            """,
        )
    )
    assert out.splitlines() == [
        "[(0, 'set'), (1, 'set'), (2, 'set')]",
        "True",
        "FUNCTION",
        "[(5, 'set')]",
        "[(1, 'ex')]",
    ]


def test_fork_inherits_globals(scripts: Scripts) -> None:
    out = scripts.good(
        script(
            "fork",
            """
            data = None

            def f(x):
                return data[x]

            if __name__ == "__main__":
                data = list("abc")
                with Pool(2, context=multiprocessing.get_context("fork")) as pool:
                    print(pool.map(f, range(3)))
            """,
        )
    )
    assert out == "['a', 'b', 'c']\n"


def test_a_function_defined_after_the_pool(scripts: Scripts) -> None:
    """The stdlib's forked workers cannot find it and hang for it; here it goes by value."""
    out = scripts.good(
        script(
            "fork",
            """
            pool = Pool(2, context=multiprocessing.get_context("fork"))

            def f(x):
                return x * 2

            print(pool.map(f, [1, 2]))

            def f(x):
                return x * 3

            print(pool.map(f, [1, 2]))
            pool.close()
            pool.join()
            """,
        )
    )
    assert out == "[2, 4]\n[3, 6]\n"


def test_exceptions_of_the_script(scripts: Scripts, method: str) -> None:
    out = scripts.good(
        script(
            method,
            """
            class MyError(Exception):
                pass

            def f(x):
                raise MyError(x)

            if __name__ == "__main__":
                with Pool(1, context=multiprocessing.get_context(METHOD)) as pool:
                    try:
                        pool.apply(f, (7,))
                    except MyError as e:
                        print("caught", e.args, "in f" in str(e.__cause__))
            """,
        )
    )
    assert out == "caught (7,) True\n"


def test_the_script_is_imported_again_under_spawn(scripts: Scripts) -> None:
    out = scripts.good(
        script(
            "spawn",
            """
            import sys
            print(__name__, flush=True)

            def f(x):
                return __name__, sys.argv[1:], __file__ == sys.modules["__mp_main__"].__file__

            if __name__ == "__main__":
                with Pool(1, context=multiprocessing.get_context("spawn")) as pool:
                    print(pool.apply(f, (1,)))
            """,
        ),
        "ARG",
    )
    assert out.splitlines() == ["__main__", "__mp_main__", "('__mp_main__', ['ARG'], True)"]


def test_no_guard_under_spawn_ends_with_the_stdlibs_words(scripts: Scripts) -> None:
    ran = scripts.run(
        script(
            "spawn",
            """
            with Pool(1, context=multiprocessing.get_context("spawn")) as pool:
                pool.map(abs, [1])
            """,
        )
    )
    assert ran.code == 1
    assert "if __name__ == '__main__':" in ran.err


def test_run_as_a_module(scripts: Scripts, method: str) -> None:
    package = scripts.folder / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        script(
            method,
            """
            def f(x):
                return x * 2

            if __name__ == "__main__":
                with Pool(2, context=multiprocessing.get_context(METHOD)) as pool:
                    print(pool.map(f, [1, 2]))
            """,
        )
    )
    ran = scripts.command("-m", "package")
    assert (ran.code, ran.out, ran.err) == (0, "[2, 4]\n", "")


COMMANDS = """
from zexec import Pool
import multiprocessing

def f(x):
    return x * 2

class Box:
    def __init__(self, x):
        self.x = x

factor = 10

def g(x):
    return x * factor

pool = Pool(2, context=multiprocessing.get_context("{method}"))
print(pool.map(f, [1, 2]))

def f(x):
    return x * 3

print(pool.map(f, [1, 2]))
print(pool.map(g, [1, 2]))
factor = 20
print(pool.map(g, [1, 2]))
print([b.x for b in pool.map(Box, [1, 2])])
print(pool.map(lambda b: b.x, [Box(7)]))

class Box:
    def __init__(self, x):
        self.x = -x

print([b.x for b in pool.map(Box, [1, 2])])
pool.close()
pool.join()
"""


def printed(method: str) -> str:
    # A forked engine has the globals as they were at the fork, as the stdlib's; a spawned one gets them with the function.
    factor_20 = "[10, 20]" if method == "fork" else "[20, 40]"
    return f"[2, 4]\n[3, 6]\n[10, 20]\n{factor_20}\n[1, 2]\n[7]\n[-1, -2]\n"


def test_dash_c(scripts: Scripts, method: str) -> None:
    ran = scripts.command("-c", COMMANDS.format(method=method))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == printed(method)


def test_stdin(scripts: Scripts, method: str) -> None:
    ran = scripts.command("-", stdin=COMMANDS.format(method=method))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == printed(method)


def test_prompt(scripts: Scripts, method: str) -> None:
    source = (
        COMMANDS.format(method=method).replace("\n\ndef", "\ndef").replace("    return x * 2", "    return x * 2\n")
    )
    lines = []
    for line in source.splitlines():
        if lines and lines[-1].startswith("    ") and line and not line.startswith("    "):
            lines.append("")
        lines.append(line)
    ran = scripts.command("-q", "-i", stdin="\n".join(line for line in lines) + "\n\nexit()\n")
    assert ran.code == 0
    # The prompt itself, ``>>>``, is on stderr, or on stdout, as Python likes.
    assert ran.out.replace(">>> ", "").replace("... ", "") == printed(method)
    assert "Error" not in ran.err


@pytest.mark.parametrize("name", ["map", "submit"])
def test_a_spawned_engine_at_a_prompt_knows_what_was_typed(scripts: Scripts, name: str) -> None:
    """By value, with the globals it uses; the stdlib's cannot do this at all."""
    ran = scripts.command(
        "-c",
        "from zexec import Executor; import multiprocessing as mp\n"
        "def helper(x): return x + 1\n"
        "def f(x): return helper(x) * 2\n"
        "with Executor(1, mp.get_context('spawn')) as ex:\n"
        "    print(list(ex.map(f, [1])), ex.submit(f, 2).result())\n",
    )
    assert (ran.code, ran.out, ran.err) == (0, "[4] 6\n", "")
