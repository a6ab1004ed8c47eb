"""The magics in a real IPython, rich outputs of engines, and a notebook that is executed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

IPython = pytest.importorskip("IPython", reason="IPython is not installed: pip install zexec[ipython]")

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.utils.capture import capture_output  # noqa: E402
from traitlets.config import Config  # noqa: E402

import zexec  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.e2e.conftest import (  # noqa: E402, F401  # fixtures by their names
    _one_family,
    flag,
    nothing_left,
    pytest_runtest_makereport,
)
from tests.helpers import tasks  # noqa: E402


@pytest.fixture
def shell(nothing_left: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:  # noqa: F811
    """An IPython with the extension loaded."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor" if IPython.version_info >= (9,) else "NoColor"
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "zexec")
    with shell.builtin_trap:
        yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def client(shell: InteractiveShell) -> Iterator[zexec.Client]:
    """A client of two engines, made in IPython."""
    with zexec.Pool(2) as pool:
        yield pool.client
    pool.join()


def px(shell: InteractiveShell, line: str, cell: str) -> tuple[Any, str, str]:
    """What ``%%px`` gives, and prints."""
    with capture_output(display=False) as said:
        result = shell.run_cell_magic("px", line, cell)
    return result, said.stdout, said.stderr


# -- %px -------------------------------------------------------------------------------------------------------------


def test_without_engines_it_says_what_to_do(shell: InteractiveShell) -> None:
    from IPython.core.error import UsageError

    for magic in ("px", "pxconfig", "autopx"):
        with pytest.raises(UsageError, match="make a client"):
            shell.run_line_magic(magic, "")
    with pytest.raises(UsageError, match="no %px"):
        shell.run_line_magic("pxresult", "")


def test_px(shell: InteractiveShell, client: zexec.Client) -> None:
    shell.run_line_magic("px", "a = 5")
    assert client[:]["a"] == [5, 5]
    with capture_output() as said:
        assert shell.run_line_magic("px", "print(a)") is None
    assert said.stdout in ("[stdout:0]\n5\n[stdout:1]\n5\n", "[stdout:1]\n5\n[stdout:0]\n5\n")
    shell.user_ns["a"] = "here"
    shell.run_line_magic("px", 'b = f"{a}"')
    assert client[:]["b"] == ["5", "5"], "names are the engines'"


def test_cells(shell: InteractiveShell, client: zexec.Client) -> None:
    result, out, _ = px(shell, "--targets 1", "print('one')\n6 * 7")
    assert result is None
    assert re.fullmatch(r"\[stdout:1\]\none\nOut\[1:\d+\]: 42\n", out)
    _, out, _ = px(shell, "-t ::-1 --no-stream -o kept", "print('many')")
    assert out == "[stdout:1]\nmany\n[stdout:0]\nmany\n"
    assert isinstance(shell.user_ns["kept"], zexec.ViewResult)
    result, out, _ = px(shell, "--noblock --verbose --targets [0,1]", "print('later')")
    assert out == "Async parallel execution on engine(s): [0, 1]\n"
    assert result.get(20)
    with capture_output() as said:
        shell.run_line_magic("pxresult", "")
    assert said.stdout == "[stdout:0]\nlater\n[stdout:1]\nlater\n"
    shell.run_line_magic("pxresult", "-o again")
    assert shell.user_ns["again"] is result
    px(shell, "--local", "both = 1")
    assert shell.user_ns["both"] == 1
    assert client[:]["both"] == [1, 1]


def test_wrong_targets_and_options(shell: InteractiveShell, client: zexec.Client) -> None:
    from IPython.core.error import UsageError

    for wrong in ("some", "1:x", "(1"):
        with pytest.raises(UsageError, match="targets are all"):
            shell.run_cell_magic("px", f"--targets {wrong}", "1")
    with pytest.raises(IndexError, match="there are 0, 1"):
        shell.run_cell_magic("px", "--targets 7", "1")


def test_errors(shell: InteractiveShell, client: zexec.Client) -> None:
    with capture_output() as said, pytest.raises(zexec.AlreadyDisplayedError) as caught:
        shell.run_cell_magic("px", "--stream", "1 / 0")
    assert said.stderr.count("ZeroDivisionError: division by zero") == 2
    assert caught.value.render_traceback() == ["2 errors"]
    assert isinstance(caught.value.original_error, zexec.CompositeError)
    with capture_output() as said, pytest.raises(zexec.CompositeError):
        shell.run_cell_magic("px", "--no-stream", "print('before')\n1 / 0")
    assert said.stdout == "[stdout:0]\nbefore\n[stdout:1]\nbefore\n"
    # What IPython shows of it is the engines' tracebacks, not ours.
    with capture_output() as said:
        shell.run_cell("%px 1 / 0")
        shell.user_ns["failed"] = client[0].execute("1 / 0")
        shell.run_cell("failed.get()")
    assert "2 errors" in said.stdout
    assert "1 / 0" in said.stdout
    assert "results.py" not in said.stdout


def test_config(shell: InteractiveShell, client: zexec.Client) -> None:
    view = client.activate("all", "_other")
    shell.run_line_magic("pxconfig_other", "-t 1 --noblock --verbose --no-stream --progress-after -1")
    assert (view.targets, view.block) == (1, False)
    with capture_output() as said:
        result = shell.run_line_magic("px_other", "c = 1")
    assert said.stdout == "Async parallel execution on engine(s): 1\n"
    assert result.get(20).engine_id == 1
    shell.run_line_magic("pxconfig_other", "-t : --block --signal-on-interrupt 2")
    assert (view.targets, view.block) == ([0, 1], True)
    shell.run_line_magic("px", "d = 1")
    assert client[:]["d"] == [1, 1], "the others are untouched"


def test_what_is_active(shell: InteractiveShell, client: zexec.Client) -> None:
    client[1].activate()
    assert shell.run_line_magic("px", "e = 1").get(20).engine_id == 1
    with zexec.Pool(1) as pool:
        pool.client  # does not take over from one that is there
        assert shell.run_line_magic("px", "e = 1").get(20).engine_id == 1
    client.shutdown()
    with zexec.Pool(1) as pool:
        pool.client
        with capture_output() as said:
            shell.run_line_magic("px", "print('new')")
        assert said.stdout == "[stdout:0]\nnew\n"
    pool.join()


def test_autopx(shell: InteractiveShell, client: zexec.Client) -> None:
    client[1].activate()
    shell.run_line_magic("pxconfig", "--block")
    with capture_output(display=False) as said:
        shell.run_line_magic("autopx", "")
        shell.run_cell("f = 12345")
        shell.run_cell("f *= 2\nprint(f)")
        shell.run_cell("f")
        assert not shell.run_cell("f / 0").success
        shell.run_cell("%autopx")
    assert said.stdout.startswith("%autopx enabled\n[stdout:1]\n24690\n")
    assert re.search(r"Out\[1:\d+\]: 24690", said.stdout)
    assert "ZeroDivisionError" in said.stdout
    assert said.stdout.endswith("%autopx disabled\n")
    assert "f" not in shell.user_ns
    shell.run_cell("f = 'here'")
    assert shell.user_ns["f"] == "here"
    assert client[1]["f"] == 24690


def test_ctrl_c_interrupts_the_engines(
    shell: InteractiveShell,
    client: zexec.Client,
    flag: Callable[[str], str],  # noqa: F811
) -> None:
    client[:].scatter("started", [flag("0"), flag("1")], flatten=True, block=True)

    def interrupt() -> None:
        for engine in "01":
            tasks.wait_for(flag(engine))
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident
    assert main is not None
    thread = threading.Thread(target=interrupt)
    thread.start()
    code = "from tests.helpers import tasks\ntasks.hold(started, '/nowhere')\nprint('went on')"
    _, out, err = px(shell, "--progress-after -1", code)
    thread.join()
    assert "Sending signal SIGINT to engines..." in err
    result = shell.magics_manager.registry["ParallelMagics"].last_result
    with pytest.raises(zexec.CompositeError, match="KeyboardInterrupt"):
        result.get(20)
    assert "went on" not in out


def test_unload(shell: InteractiveShell, client: zexec.Client) -> None:
    shell.run_line_magic("autopx", "")
    shell.run_line_magic("unload_ext", "zexec")
    assert shell.find_line_magic("px") is None
    assert shell.find_cell_magic("px") is None
    shell.run_cell("g = 1")
    assert shell.user_ns["g"] == 1
    shell.run_line_magic("load_ext", "zexec")
    assert shell.find_line_magic("px") is not None


def test_outside_ipython_there_is_nothing_to_activate(nothing_left: Any) -> None:  # noqa: F811
    with zexec.Pool(1) as pool, pytest.raises(RuntimeError, match="does not run in it"):
        pool.client[0].activate()
    pool.join()


# -- IPython on engines ----------------------------------------------------------------------------------------------


RICH = """
from IPython.display import HTML, Math, display
print("text")
display(HTML("<b>bold</b>"))
display(3)
Math("x^2")
"""


def test_rich_outputs(shell: InteractiveShell, client: zexec.Client) -> None:
    result = client[:].execute(RICH, silent=False)
    replies = result.get(20)
    assert [[o["data"]["text/plain"] for o in outputs][1] for outputs in result.outputs] == ["3", "3"]
    assert result.outputs[0][0]["data"]["text/html"] == "<b>bold</b>"
    assert replies[0]._repr_latex_() == "$\\displaystyle x^2$"
    assert replies[0]._repr_html_() is None
    client[0].execute("from IPython.display import Image", block=True)
    picture = client[0].execute("Image(data=b'data', format='png', width=10)", silent=False).get(20)
    assert picture._repr_png_() == ("ZGF0YQ==", {"width": 10})


@pytest.mark.parametrize("groupby", ["type", "engine", "order"])
def test_they_are_shown_here(shell: InteractiveShell, client: zexec.Client, groupby: str) -> None:
    with capture_output() as said:
        shell.run_cell_magic("px", f"--no-stream --group-outputs={groupby}", RICH)
    kinds = [set(output.data) for output in said.outputs]
    html, three, math = {"text/plain", "text/html"}, {"text/plain"}, {"text/plain", "text/latex"}
    expected = {
        "type": [html, three, html, three, math, math],
        "engine": [html, three, math, html, three, math],
        "order": [html, html, three, three, math, math],
    }
    assert kinds == expected[groupby]
    assert said.stdout.count("[stdout:") == 2
    with capture_output() as said:
        shell.run_cell_magic("px", "--stream", RICH)
    assert sorted(map(len, (output.data for output in said.outputs))) == [1, 1, 2, 2, 2, 2]


def test_a_function_displays(shell: InteractiveShell, client: zexec.Client) -> None:
    def show() -> None:
        from IPython.display import display

        for i in range(3):
            display(i)

    result = client[0].apply_async(show)
    assert result.wait_for_output(20)
    assert [output["data"] for output in result.outputs] == [{"text/plain": str(i)} for i in range(3)]


def test_magics_on_engines(shell: InteractiveShell, client: zexec.Client) -> None:
    view = client[0]
    view.block = True
    view["a"] = 5
    listed = view.execute("%whos int")
    assert "a " in listed.stdout
    assert view.execute("!echo from the system").stdout.strip() == "from the system"
    view.execute("files = !echo one two")
    assert list(view["files"]) == ["one two"]
    view.execute("%%capture kept\nprint('held')")
    assert view["kept.stdout"] == "held\n"
    assert view["a"] == 5
    with pytest.raises(zexec.RemoteError, match="SyntaxError"):
        view.execute("a b")
    assert client[1].apply_sync(lambda: __name__) == "__main__"


def test_progress_in_ipython(
    client: zexec.Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed: pip install zexec[progress]")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # or a thread of its own outlives the test
    result = client.load_balanced_view().map_async(tasks.double, range(4))
    assert result.wait_interactive(widget=False)
    assert "4/4" in capfd.readouterr().err


# -- a notebook ------------------------------------------------------------------------------------------------------

CELLS = [
    "%load_ext zexec\nimport zexec\npool = zexec.Pool(2)\nclient = pool.client\nclient.ids",
    "%%px\nprint('hello')\n6 * 7",
    "%px from IPython.display import HTML",
    "%%px --targets 1 --no-stream\nHTML('<i>rich</i>')",
    "scale = 10\nclient[:].apply_sync(lambda: scale)",
    "client.load_balanced_view().map_async(lambda x: x, range(3)).wait_interactive()",
    "%%px\n1 / 0",
    "%autopx",
    "there = 1",
    "%autopx",
    "('there' in globals(), client[:]['there'])",
    "pool.terminate(); pool.join()",
]


EXECUTE = """
import sys
import nbclient, nbformat

notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60, allow_errors=True).execute()
nbformat.write(notebook, sys.argv[1])
"""


def test_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Any) -> None:  # noqa: F811
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel")
    import nbformat

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS]), path)
    # In a process of its own: nbclient keeps an event loop.
    subprocess.run([sys.executable, "-c", EXECUTE, path], cwd=tmp_path, check=True, timeout=120)
    notebook = nbformat.read(path, 4)
    said = [cell.outputs for cell in notebook.cells]
    failed = [i for i, outputs in enumerate(said) if any(o.output_type == "error" for o in outputs)]
    assert failed == [6], [said[i] for i in failed]
    assert value(said[0]) == "[0, 1]"
    assert text(said[1], "stdout").count("hello") == 2
    assert [o.data["text/plain"].partition(": ")[2] for o in said[1] if o.output_type == "display_data"] == ["42"] * 2
    (rich,) = [o for o in said[3] if o.output_type == "display_data"]
    assert rich.data["text/html"] == "<i>rich</i>"
    assert value(said[4]) == "[10, 10]"
    assert value(said[5]) == "True"
    assert text(said[6], "stderr").count("ZeroDivisionError: division by zero") == 2
    assert value(said[10]) == "(False, [1, 1])"


def value(outputs: list[Any]) -> str:
    (result,) = [output for output in outputs if output.output_type == "execute_result"]
    shown: str = result.data["text/plain"]
    return shown


def text(outputs: list[Any], stream: str) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)
