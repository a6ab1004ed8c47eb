"""The magics themselves."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from zexec.errors import AlreadyDisplayedError, CompositeError
from zexec.views.direct import DirectView
from zexec.views.results import ViewResult

Decorator = Callable[[Any], Any]


def _options(*arguments: Decorator) -> Decorator:
    def decorate(f: Any) -> Any:
        for one in arguments:
            f = one(f)
        return f

    return decorate


def _switch(on: str, off: str, dest: str, help_on: str, help_off: str) -> list[Decorator]:
    return [
        argument(*on.split(), action="store_const", const=True, dest=dest, help=help_on),
        argument(*off.split(), action="store_const", const=False, dest=dest, help=help_off),
    ]


#: how code is run
HOW = _options(
    *_switch("-b --block", "-a --noblock", "block", "wait for the code to end", "do not wait for the code to end"),
    *_switch("--stream", "--no-stream", "stream", "show output as it comes", "show output when all have ended"),
    *_switch("--verbose", "--no-verbose", "set_verbose", "say where each piece of code runs", "do not say it"),
    argument("-t", "--targets", help="engines: all, a number, a list, or a slice such as ::2"),
    argument(
        "--progress-after",
        dest="progress_after",
        type=float,
        help="seconds until a progress bar is shown; 0 is at once, -1 never",
    ),
    argument("--signal-on-interrupt", dest="signal", help="signal that Ctrl-C sends to engines: a name or a number"),
)
#: how output is shown, and where the result is kept
OUTPUT = _options(
    argument("-e", action="store_const", dest="groupby", const="engine", help="as --group-outputs=engine"),
    argument("-r", action="store_const", dest="groupby", const="order", help="as --group-outputs=order"),
    argument(
        "--group-outputs",
        dest="groupby",
        choices=["engine", "order", "type"],
        default="type",
        help="show all of an engine together, or what is of one kind, or what engines displayed first, second, ...",
    ),
    argument("-o", "--out", dest="save_name", help="keep the result under this name"),
)


class ParallelMagics(Magics):  # type: ignore[misc]
    """``%px`` and its kin for one view.

    Args:
        shell: the IPython.
        view: on whose engines code runs; None until there is one.
        suffix: added to the names of all magics.

    Attributes:
        last_result: of the newest ``%px``.
        verbose, stream_output, progress_after, signal_on_interrupt: what ``%pxconfig`` sets.
    """

    registered = True

    def __init__(self, shell: Any, view: DirectView | None, suffix: str) -> None:
        self.view = view
        self.suffix = suffix
        self.last_result: ViewResult | None = None
        self.verbose = False
        self.stream_output = True
        self.progress_after = 2.0
        self.signal_on_interrupt: int | str = "SIGINT"
        #: while %autopx is on: what ran cells before
        self._run_nodes: Any = None
        self._cell = ""
        names = {"px": "px", "pxconfig": "pxconfig", "pxresult": "pxresult", "autopx": "autopx"}
        line = {name + suffix: method for name, method in names.items()}
        if not suffix:
            line["result"] = "pxresult"
        self.magics = {"line": line, "cell": {"px" + suffix: "cell_px"}}
        super().__init__(shell=shell)

    def withdraw(self) -> None:
        """Take the magics out of the shell."""
        self._end_autopx()
        manager = self.shell.magics_manager
        for kind, names in self.magics.items():
            for name in names:
                manager.magics[kind].pop(name, None)
        manager.registry.pop(f"ParallelMagics{self.suffix}", None)

    def _the_view(self) -> DirectView:
        if self.view is None:
            raise UsageError("no engines yet: make a client, such as pool.client, or call view.activate()")
        return self.view

    # -- the magics --------------------------------------------------------------------------------------------------

    @no_var_expand  # type: ignore[untyped-decorator]
    def px(self, line: str = "") -> Any:
        """Run a line of code on the engines.

        ::

            %px import os; os.getpid()
        """
        return self._run(line)

    @magic_arguments()  # type: ignore[untyped-decorator]
    @HOW
    @OUTPUT
    @argument("--local", action="store_true", help="run the cell here as well")  # type: ignore[untyped-decorator]
    def cell_px(self, line: str = "", cell: str = "") -> Any:
        """Run the cell on the engines.

        ::

            %%px --targets ::2 --noblock -o result
            import os
            os.getpid()
        """
        args = parse_argstring(self.cell_px, line)
        view = self._the_view()
        block = view.block if args.block is None else args.block
        before = view.targets
        if args.targets:
            view.targets = self._targets(args.targets)
        if args.set_verbose is not None:
            self.verbose = args.set_verbose
        try:
            result = self._submit(cell, block, args.save_name)
            if args.local:
                self.shell.run_cell(cell)
            if not block:
                return result
            signal = self.signal_on_interrupt if args.signal is None else _signal(args.signal)
            stream = self.stream_output if args.stream is None else args.stream
            after = self.progress_after if args.progress_after is None else args.progress_after
            return self._wait(result, args.groupby, stream, after, signal)
        finally:
            view.targets = before

    @magic_arguments()  # type: ignore[untyped-decorator]
    @OUTPUT
    def pxresult(self, line: str = "") -> None:
        """Show what came of the newest %px; waits for it."""
        args = parse_argstring(self.pxresult, line)
        if self.last_result is None:
            raise UsageError("there has been no %px whose result could be shown")
        if args.save_name:
            self.shell.user_ns[args.save_name] = self.last_result
            return
        self.last_result.get()
        self.last_result.display_outputs(args.groupby)

    @magic_arguments()  # type: ignore[untyped-decorator]
    @HOW
    def pxconfig(self, line: str = "") -> None:
        """Set what %px does from now on."""
        args = parse_argstring(self.pxconfig, line)
        view = self._the_view()
        if args.targets:
            view.targets = self._targets(args.targets)
        if args.block is not None:
            view.block = args.block
        if args.set_verbose is not None:
            self.verbose = args.set_verbose
        if args.stream is not None:
            self.stream_output = args.stream
        if args.progress_after is not None:
            self.progress_after = args.progress_after
        if args.signal is not None:
            self.signal_on_interrupt = _signal(args.signal)

    def autopx(self, line: str = "") -> None:
        """Have every cell run on the engines rather than here, until ``%autopx`` is said again."""
        if self._run_nodes is not None:
            self._end_autopx()
            return
        self._the_view()
        self._run_nodes = self.shell.run_ast_nodes
        self.shell.run_ast_nodes = self._run_nodes_there
        self.shell.events.register("pre_run_cell", self._note_cell)
        print("%autopx enabled")

    def _end_autopx(self) -> None:
        if self._run_nodes is None:
            return
        self.shell.run_ast_nodes = self._run_nodes
        self._run_nodes = None
        self.shell.events.unregister("pre_run_cell", self._note_cell)
        print("%autopx disabled")

    def _note_cell(self, info: Any) -> None:
        self._cell = info.raw_cell

    async def _run_nodes_there(self, *args: Any, **kwargs: Any) -> bool:
        """In place of the shell's ``run_ast_nodes``: whether it failed."""
        if re.match(rf"\s*%autopx{self.suffix}\b", self._cell):
            self._end_autopx()
            return False
        try:
            self._run(self._cell)
        except BaseException as e:
            if kwargs.get("result") is not None:
                kwargs["result"].error_in_exec = e
            self.shell.showtraceback()
            return True
        return False

    # -- running code ------------------------------------------------------------------------------------------------

    def _run(self, code: str) -> Any:
        view = self._the_view()
        result = self._submit(code, view.block, None)
        if not view.block:
            return result
        return self._wait(result, "type", self.stream_output, self.progress_after, self.signal_on_interrupt)

    def _submit(self, code: str, block: bool, save_name: str | None) -> ViewResult:
        view = self._the_view()
        if self.verbose:
            targets = view.targets
            many = isinstance(targets, list) and len(targets) > 10
            shown = (
                f"[{', '.join(map(str, targets[:4]))}, ..., {', '.join(map(str, targets[-4:]))}]" if many else targets
            )
            print(f"{'Parallel' if block else 'Async parallel'} execution on engine(s): {shown}")
        result = view.execute(code, silent=False, block=False)
        result._what = "%px"
        self.last_result = result
        if save_name:
            self.shell.user_ns[save_name] = result
        return result

    def _wait(self, result: ViewResult, groupby: str, stream: bool, after: float, signal: int | str) -> None:
        streamed: AbstractContextManager[None] = result.stream_output() if stream else nullcontext()
        try:
            with streamed:
                if after < 0:
                    result.wait()
                elif not result.wait(after):
                    result.wait_interactive()
            result.get()
        except CompositeError as e:
            if stream:
                raise AlreadyDisplayedError(e) from None
            raise
        except KeyboardInterrupt:
            print(f"Received Keyboard Interrupt. Sending signal {signal} to engines...", file=sys.stderr)
            view = self._the_view()
            view.client.send_signal(signal, view.targets)
        finally:
            if not stream and result.done():
                result.display_outputs(groupby)

    def _targets(self, text: str) -> Any:
        if text == "all":
            return text
        ids = self._the_view().client.ids
        try:
            if ":" in text:
                return ids[slice(*(int(part) if part.strip() else None for part in text.split(":")))]
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise UsageError(f"targets are all, a number, a list or a slice such as ::2, not {text!r}") from None


def _signal(text: str) -> int | str:
    return int(text) if text.isdigit() else text


__all__ = ["ParallelMagics"]
