"""DirectView: calls on each of its engines, and their namespaces."""

from __future__ import annotations

import builtins
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

from zexec.engine import namespace
from zexec.options import Options
from zexec.views import partition
from zexec.views.book import Targets
from zexec.views.functions import ParallelFunction
from zexec.views.part import Part
from zexec.views.results import ViewResult
from zexec.views.rites import Rite
from zexec.views.shipping import name_of
from zexec.views.view import View, equal_parts


class DirectView(View):
    """Runs each call on every one of its engines. Made by indexing a Client.

    ``view["a"] = 5`` binds a name on the engines, ``view["a"]`` is what it is bound to there. A view of one engine,
    ``client[0]``, gives values; one of several gives lists of them, in the order of ``targets``.

    A function by value (a lambda, a local one, one of ``__main__``) sees the engine's namespace as its globals.
    """

    # -- calls -------------------------------------------------------------------------------------------------------

    def _apply(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        block: bool | None,
        targets: Targets = None,
        rite: Rite | None = None,
    ) -> Any:
        parcel = self.client.shipper.pack((args, kwargs))
        return self._finish(self._submit(f, targets, lambda ids: [parcel] * len(ids), rite=rite), block)

    def _submit(
        self,
        f: Callable[..., Any],
        targets: Targets,
        parcels: Callable[[list[int]], list[Any]],
        kind: str = "call",
        name: str | None = None,
        **how: Any,
    ) -> ViewResult:
        """Submit a task to each target; ``how`` as for ViewResult."""
        targets = self.targets if targets is None else targets
        ids = self.client.resolve(targets)
        payloads = parcels(ids)
        function = self.client.shipper.function(f, kind, self.copy)
        sizes = how.pop("sizes", None) or [1] * len(payloads)
        parts, start = [], 0
        for id, size in zip(ids, sizes, strict=False):
            parts.append(Part(start, size, id))
            start += size
        how.setdefault("single", isinstance(targets, int))
        result = ViewResult(self.client._connection, name or name_of(f), parts, copy=self.copy, **how)
        result.label = self.label
        options = [Options.of(timeout=self.timeout, targets=part.target) for part in parts]
        if parts:
            self.client.submit(result, function, payloads, options)
        return result

    def execute(self, code: str, silent: bool = True, targets: Targets = None, block: bool | None = None) -> ViewResult:
        """Run a string of code in the engines' namespaces.

        Args:
            code: statements.
            silent: if not, the value of a last expression is in the result's ``pyout``.
            targets: instead of the view's.
            block: wait, and raise what it raised; as the view does, by default.

        Returns:
            a result, in any case: what was printed is in its ``stdout``.
        """
        return self._execute(code, None, silent, targets, block)

    def _execute(
        self,
        code: str,
        filename: str | None,
        silent: bool,
        targets: Targets,
        block: bool | None,
        rite: Rite | None = None,
    ) -> ViewResult:
        if not isinstance(code, str):
            raise TypeError(f"code must be a string, not {code!r}")
        parcel = self.client.shipper.pack(((code, filename, silent), {}))
        result = self._submit(
            namespace.execute, targets, lambda ids: [parcel] * len(ids), name="execute", code=code, rite=rite
        )
        self._finish(result, block)
        return result

    def run(self, filename: str, targets: Targets = None, block: bool | None = None) -> ViewResult:
        """Run a file, which is read here, in the engines' namespaces; as ``execute``."""
        with open(filename) as file:
            return self._execute(file.read() + "\n", str(filename), True, targets, block)

    def activate(self, suffix: str = "") -> None:
        """Have IPython's ``%px``, or magics whose names end so, run code on this view, see ``zexec.ipython``.

        Raises:
            RuntimeError: this program does not run in IPython.
        """
        from zexec.ipython import activate

        activate(self, suffix)

    # -- names -------------------------------------------------------------------------------------------------------

    def push(
        self, ns: dict[str, Any], targets: Targets = None, block: bool | None = None, track: bool | None = None
    ) -> Any:
        """Bind names on the engines.

        Args:
            ns: values by name.
            targets, block: instead of the view's.
            track: tells nobody anything new: the result knows when it is ``sent`` in any case.
        """
        if not isinstance(ns, dict):
            raise TypeError(f"names to push must come in a dict, not in {ns!r}")
        for name in ns:
            _check_name(name)
        return self._apply(namespace.push, (ns,), {}, block, targets, ("bind", frozenset(ns)))

    def pull(self, names: str | Iterable[str], targets: Targets = None, block: bool | None = None) -> Any:
        """What a name is bound to on the engines, or for several names a list."""
        wanted = names if isinstance(names, str) else list(names) if isinstance(names, Iterable) else None
        if wanted is None:
            raise TypeError(f"names to pull must be a string or several, not {names!r}")
        for name in [wanted] if isinstance(wanted, str) else wanted:
            _check_name(name)
        return self._apply(namespace.pull, (wanted,), {}, block, targets)

    def get(self, names: str | Iterable[str]) -> Any:
        """As ``pull``, waiting for the value."""
        return self.pull(names, block=True)

    def update(self, ns: dict[str, Any]) -> Any:
        """As ``push``."""
        return self.push(ns)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        # Waits, so that it raises what is wrong.
        self.push({name: value}, block=True)

    def __delitem__(self, name: str) -> None:
        _check_name(name)
        self._apply(namespace.delete, ([name],), {}, True, None, ("unbind", frozenset((name,))))

    def clear(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Unbind all names."""
        return self._apply(namespace.clear, (), {}, block, targets, ("clear", frozenset()))

    clear_namespace = clear

    # -- sequences ---------------------------------------------------------------------------------------------------

    def scatter(
        self,
        key: str,
        seq: Any,
        dist: str = "b",
        flatten: bool = False,
        targets: Targets = None,
        block: bool | None = None,
        track: bool | None = None,
    ) -> ViewResult | None:
        """Cut a sequence into parts, and bind a name on each engine to its part.

        Args:
            key: the name.
            seq: the sequence, or anything that can be iterated over.
            dist: "b" cuts into contiguous blocks, "r" deals items out.
            flatten: bind a part of one item to the item.
            targets, block: instead of the view's.
            track: tells nobody anything new: the result knows when it is ``sent`` in any case.

        Returns:
            a result; None with ``block``, as in IPython's parallel package.
        """
        _check_name(key)
        partition.check_dist(dist)

        def parcels(ids: list[int]) -> list[Any]:
            parts = partition.split(seq, len(ids), dist)
            if flatten:
                parts = [part[0] if len(part) == 1 else part for part in parts]
            return [self.client.shipper.pack((({key: part},), {})) for part in parts]

        rite: Rite = ("bind", frozenset((key,)))
        result = self._submit(namespace.push, targets, parcels, name="scatter", single=False, rite=rite)
        self._finish(result, block)
        return None if (self.block if block is None else block) else result

    def gather(self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None) -> Any:
        """Put together what a name is bound to on each engine; the opposite of ``scatter``."""
        _check_name(key)
        partition.check_dist(dist)
        parcel = self.client.shipper.pack(((key,), {}))
        result = self._submit(
            namespace.pull,
            targets,
            lambda ids: [parcel] * len(ids),
            name="gather",
            single=False,
            shape=partial(partition.join, dist=dist),
        )
        return self._finish(result, block)

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        block: bool | None = None,
        track: bool | None = None,
        return_exceptions: bool = False,
        dist: str = "b",
    ) -> Any:
        """``list(map(f, *sequences))``, in equal parts, one for each engine.

        Args:
            f: called with an item of each sequence.
            sequences: the shortest counts.
            block: wait for the list; as the view does, by default.
            track: as for ``scatter``.
            return_exceptions: put an item's exception where its value would be, rather than raise.
            dist: "b" cuts into contiguous blocks, "r" deals items out; the list is in order anyway.
        """
        if not sequences:
            raise TypeError("map needs at least one sequence")
        partition.check_dist(dist)
        ids = self.client.resolve(self.targets)
        parts = equal_parts(sequences, len(ids), dist, same_length=False)
        sizes = [len(part[0]) for part in parts]
        result = self._submit(
            f,
            ids,
            lambda _: [self.client.shipper.pack(part) for part in parts],
            "each" if return_exceptions else "map",
            single=False,
            per_item=True,
            sizes=sizes,
            return_exceptions=return_exceptions,
            shape=partial(_deal_back, sizes) if dist == "r" else None,
        )
        return self._finish(result, block)

    def _call_on_parts(self, f: ParallelFunction, *sequences: Any) -> Any:
        ids = self.client.resolve(self.targets)
        parts = equal_parts(sequences, len(ids), f.dist, same_length=True)
        if not parts:
            return []
        result = self._submit(
            f.func,
            ids,
            lambda _: [self.client.shipper.pack((part, {})) for part in parts],
            single=False,
            return_exceptions=f.return_exceptions,
            shape=partial(partition.join, dist=f.dist),
        )
        return self._finish(result, None)

    def _map_options(self, f: ParallelFunction) -> dict[str, Any]:
        return {"dist": f.dist}

    def reduce(self, f: Callable[[Any, Any], Any], seq: Any, /, *initial: Any) -> Any:
        """``functools.reduce(f, seq, *initial)``: each engine reduces a part, and what they give is reduced here.

        Args:
            f: must be associative.
            seq: the sequence.
            initial: at most one; stands before the items.

        Raises:
            TypeError: the sequence is empty and there is no initial value.
        """
        if len(initial) > 1:
            raise TypeError("reduce takes one initial value at most")
        ids = self.client.resolve(self.targets)
        parts = equal_parts((seq,), len(ids), "b", same_length=True)
        if not parts:
            return reduce(f, (), *initial)
        result = self._submit(
            reduce,
            ids,
            lambda _: [self.client.shipper.pack(((f, *part), {})) for part in parts],
            name=name_of(f),
            single=False,
        )
        self.history.extend(result.msg_ids)
        return reduce(f, result.get(), *initial)

    # -- imports -----------------------------------------------------------------------------------------------------

    @property
    def importer(self) -> Any:
        """``sync_imports()``."""
        return self.sync_imports()

    @contextmanager
    def sync_imports(self, local: bool = True, quiet: bool = False) -> Iterator[None]:
        """Imports that are written in the body of the ``with`` happen on the engines, too.

        ``import x as y`` imports, but binds ``x`` there. Statements elsewhere, such as those of the modules that are
        imported, are not repeated.

        Args:
            local: import here as well.
            quiet: say nothing.
        """
        caller = sys._getframe(2)  # behind contextmanager
        thread = threading.get_ident()
        plain = builtins.__import__
        seen: list[str] = []

        def watch(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
            if threading.get_ident() != thread or sys._getframe(1) is not caller or level:
                return plain(name, globals, locals, fromlist, level)
            code = f"from {name} import {', '.join(fromlist)}" if fromlist else f"import {name}"
            if code not in seen:
                seen.append(code)
                self._execute(code, None, True, None, True, ("bind", frozenset((code,))))
                if not quiet:
                    sys.stdout.write(f"{code} on engines {', '.join(map(str, self.client.resolve(self.targets)))}\n")
            if local:
                return plain(name, globals, locals, fromlist, level)
            return _Absent(name.partition(".")[0])

        builtins.__import__ = watch
        try:
            yield
        finally:
            builtins.__import__ = plain


class _Absent(types.ModuleType):
    """What a name is bound to here that was imported on engines only."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a name must be a string, not {name!r}")


def _deal_back(sizes: list[int], values: list[Any]) -> list[Any]:
    parts, start = [], 0
    for size in sizes:
        parts.append(values[start : start + size])
        start += size
    joined: list[Any] = partition.join(parts, "r")
    return joined


__all__ = ["DirectView"]
