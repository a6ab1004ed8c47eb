"""A program cannot tell, by what it is given and by what becomes of it, that `zexec run` runs it."""

from __future__ import annotations

import os
import py_compile
import sys
import zipfile

import pytest

SHOWS_ITSELF = """
    "Its docstring."
    import sys
    me = sys.modules["__main__"]
    for name, value in list(globals().items()):
        print(name, type(value) if name in ("__loader__", "me") else value)
    print(vars(me) is globals(), me.__name__, sys.argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions)
    if __spec__:
        print(__spec__.name, __spec__.origin, __spec__.parent)
"""


@pytest.fixture
def package(programs):
    programs.write("package/__init__.py", "import sys; print('package', sys.argv, sys.modules['__main__'].__name__)")
    programs.write("package/__main__.py", SHOWS_ITSELF.replace("__spec__ value", ""))
    programs.write("package/module.py", SHOWS_ITSELF)
    return programs


def without_addresses(text):
    return [line for line in text.splitlines() if not line.startswith("__spec__")]


class TestWhatItIsGiven:
    @pytest.mark.parametrize("name", ["script.py", "./script.py", "sub/../script.py", "link.py", "no_suffix"])
    def test_script(self, programs, name):
        programs.write("sub/unused.py", "")
        programs.write("script.py", SHOWS_ITSELF)
        programs.write("no_suffix", SHOWS_ITSELF)
        (programs.folder / "link.py").symlink_to("sub/../script.py")
        ran = programs.same(name, "-n", "3", "--", "-m", "x y", "")
        assert ran.code == 0
        assert "'-n', '3', '--', '-m', 'x y', ''" in ran.out

    @pytest.mark.parametrize("name", ["package", "package.module", "json.tool"])
    def test_module(self, package, name):
        ours = package.ours("-m", name, "-n", "3", stdin="{}")
        plain = package.plain("-m", name, "-n", "3", stdin="{}")
        # A spec's repr has an address in it.
        assert without_addresses(ours.out) == without_addresses(plain.out)
        assert (ours.code, ours.err) == (plain.code, plain.err)

    @pytest.mark.parametrize("name", ["folder", "./folder", "archive.zip", "made.pyc"])
    def test_other_kinds_of_script(self, programs, name):
        script = programs.write(
            "folder/__main__.py", SHOWS_ITSELF.replace("if __spec__", "import side\n    if __spec__")
        )
        programs.write("folder/side.py", "print(__file__)")
        programs.write("side.py", "print('wrong')")
        with zipfile.ZipFile(programs.folder / "archive.zip", "w") as archive:
            archive.write(script, "__main__.py")
            archive.write(script.with_name("side.py"), "side.py")
        py_compile.compile(str(script), cfile=str(programs.folder / "made.pyc"))
        ours, plain = programs.ours(name, "-m", "b"), programs.plain(name, "-m", "b")
        assert without_addresses(ours.out) == without_addresses(plain.out)
        assert (ours.code, ours.err) == (0, "") == (plain.code, plain.err)

    @pytest.mark.parametrize("options", [(), ("-O", "-X", "dev", "-X", "own=1"), ("-W", "error", "-u", "-B"), ("-P",)])
    def test_options_of_python(self, programs, options):
        if "-P" in options and sys.version_info < (3, 11):
            pytest.skip("-P came with 3.11")
        programs.write("script.py", SHOWS_ITSELF)
        assert programs.same("script.py", options=options).code == 0

    @pytest.mark.parametrize("how", [("script.py",), ("archive.zip",)])
    def test_isolated(self, programs, how):
        # -I hides the tests' zexec as well as the script's folder, so this one is shown where zexec is.
        script = programs.write("script.py", "import sys; print(sys.argv, [p for p in sys.path if p != sys.path[-1]])")
        with zipfile.ZipFile(programs.folder / "archive.zip", "w") as archive:
            archive.write(script, "__main__.py")
        start = (
            f"import sys; sys.path.append({programs.root!r})\n"
            "from zexec.__main__ import main; main(['run', *sys.argv[1:]])"
        )
        plain = programs.plain(*how, options=("-I",))
        path = programs.plain("-c", "import sys; print(sys.path[-1])", options=("-I",)).out.strip()
        ours = programs.plain("-c", start, *how, options=("-I",))
        assert ours.out.replace(f", {path!r}]", "]") == plain.out
        assert (ours.code, ours.err) == (0, "")

    def test_streams(self, programs):
        programs.write("script.py", "import sys; print(sys.stdin.read()[::-1]); print('e', file=sys.stderr)")
        assert programs.same("script.py", stdin="one\ntwo\n") == (0, "\nowt\neno\n", "e\n")

    def test_pickle_finds_its_functions(self, programs):
        programs.write(
            "script.py",
            """
            import pickle
            def function(): pass
            class Class: pass
            data = pickle.dumps((function, Class))
            assert b"__main__" in data
            assert pickle.loads(data) == (function, Class)
            print(data)
            """,
        )
        assert programs.same("script.py").code == 0
        assert programs.same("-m", "script").code == 0


class TestHowItEnds:
    @pytest.mark.parametrize(
        ("statement", "code"),
        [
            ("pass", 0),
            ("sys.exit()", 0),
            ("sys.exit(None)", 0),
            ("sys.exit(7)", 7),
            ("sys.exit(300)", 44),
            ("sys.exit('text')", 1),
            ("sys.exit([1, 'two'])", 1),
            ("raise SystemExit", 0),
            ("os._exit(9)", 9),
            ("os.kill(os.getpid(), 9)", -9),
            ("os.abort()", -6),
            ("raise KeyboardInterrupt", -2),
            ("raise ValueError('text')", 1),
            ("raise GeneratorExit", 1),
            ("assert False", 1),
            ("1 +", 1),
        ],
    )
    @pytest.mark.parametrize("how", [("script.py",), ("-m", "script")])
    def test_code(self, programs, statement, code, how):
        programs.write(
            "script.py",
            f"""
            import os, sys, atexit, threading
            atexit.register(print, "atexit", flush=True)
            thread = threading.Thread(target=lambda: (threading.main_thread().join(), print("thread", flush=True)))
            thread.start()
            {statement}
            """,
        )
        assert programs.same(*how).code == code

    @pytest.mark.parametrize("how", [("nothing.py",), ("script.py/",), ("empty",), ("-m", "nothing"), ("-m", "empty")])
    def test_there_is_no_such_program(self, programs, how):
        programs.write("script.py", "")
        (programs.folder / "empty").mkdir()
        ran = programs.same(*how)
        assert ran.code in (1, 2)
        assert ran.err

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read all files")
    def test_unreadable(self, programs):
        programs.write("script.py", "").chmod(0)
        assert programs.same("script.py").code == 2

    def test_bad_pyc(self, programs):
        (programs.folder / "bad.pyc").write_bytes(b"neither code nor source")
        assert programs.same("bad.pyc").code == 1

    @pytest.mark.parametrize("how", [("script.py",), ("-m", "script")])
    def test_interrupt(self, programs, how):
        # The signal is held back until it is there, for the traceback to name the same line each time.
        programs.write(
            "script.py",
            """
            import atexit, signal
            atexit.register(print, "atexit")
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            print("up", flush=True)
            while signal.SIGINT not in signal.sigpending():
                pass
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            """,
        )
        ours, plain = programs.interrupted("-m", "zexec", "run", *how), programs.interrupted(*how)
        assert ours == plain
        assert ours.code == -2
        assert ours.out == "up\natexit\n"

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
    def test_handled_signal(self, programs, name):
        programs.write(
            "script.py",
            f"""
            import os, signal, sys
            signal.signal(signal.{name}, lambda number, frame: sys.exit(number))
            os.kill(os.getpid(), signal.{name})
            signal.pause()
            """,
        )
        assert programs.same("script.py").code > 0


CHAIN = """
    import atexit, sys, traceback
    def show():
        trace = sys.last_traceback
        print([frame.name for frame in traceback.extract_tb(trace)], trace is sys.last_value.__traceback__)
    atexit.register(show)
    def inner():
        raise KeyError("first")
    def outer():
        try:
            inner()
        except KeyError as error:
            raise ValueError("second") from error
    outer()
"""


class TestTracebacks:
    @pytest.mark.parametrize(
        "source",
        [
            CHAIN,
            "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
            "import json; json.loads('{')",
            "import sys; sys.excepthook = lambda kind, error, trace: print(kind, trace.tb_frame.f_code.co_name)\n1 / 0",
            "import sys, os\nif not os.fork(): raise ValueError('child')\nprint(os.wait()[1], flush=True)\n1 / 0",
            "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
            "import broken",
            "def f():\n    raise ValueError\nf(",
        ],
    )
    @pytest.mark.parametrize("how", [("script.py",), ("-m", "script"), ("folder",)])
    def test_uncaught(self, programs, source, how):
        for name in ("script.py", "folder/__main__.py"):
            programs.write(name, source)
        programs.write("broken.py", "x = (\n")
        ran = programs.same(*how)
        assert ran.err or "ZeroDivisionError" in ran.out
        assert "zexec" not in ran.err + ran.out

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with 3.11")
    def test_group(self, programs):
        programs.write("script.py", "raise ExceptionGroup('all', [ValueError(1), KeyError(2)])")
        assert programs.same("script.py").code == 1
