"""LoadBalancedView: each call on one engine, whichever has time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from zexec.dependency import Dependency
from zexec.options import Options
from zexec.views import partition
from zexec.views.client import Client
from zexec.views.functions import ParallelFunction
from zexec.views.lazy import LazyMapIterator, ViewExecutor
from zexec.views.part import Part
from zexec.views.results import ViewResult
from zexec.views.shipping import name_of
from zexec.views.view import View, drawn, equal_parts

#: Tasks that a map makes by itself at most: each costs the client about ten microseconds and two kilobytes.
TASKS = 4096


class LoadBalancedView(View):
    """Runs each call on one engine, chosen by the scheduler. Made by ``Client.load_balanced_view``.

    Attributes:
        targets: the engines to choose from; None for all.
        retries: further attempts after a failure.
        priority: tasks with a higher one start first.
        after: results, ids or a Dependency: a task runs when those are there; they have to be well, unless the Dependency says
            otherwise, or it fails with ImpossibleDependency.
        follow: as ``after``, and it runs on an engine that ran those.
        timeout: seconds that a task may wait for what it comes after, after which it fails with DependencyTimeout.
    """

    FLAGS = (*View.FLAGS, "retries", "priority", "after", "follow")

    def __init__(self, client: Client, **flags: Any) -> None:
        self.retries = 0
        self.priority = 0
        self.after: Any = None
        self.follow: Any = None
        super().__init__(client, **flags)

    def set_flags(self, **flags: Any) -> View:
        before = {name: getattr(self, name) for name in flags if hasattr(self, name)}
        super().set_flags(**flags)
        try:
            self._options()  # says what is wrong with a value, now
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise
        return self

    def _options(self) -> Options:
        targets = None if self.targets is None or self.targets == "all" else self.client.resolve(self.targets)
        after, follow = (Dependency.of(each) for each in (self.after, self.follow))
        if after is None and follow is None:
            try:
                Options.of(patience=self.timeout)
            except (TypeError, ValueError) as e:
                raise type(e)(str(e).replace("patience", "timeout")) from None
            return Options.of(retries=self.retries, priority=self.priority, targets=targets)
        after, follow = (each and each.found(self.client.look_up) for each in (after, follow))
        return Options.of(
            retries=self.retries,
            priority=self.priority,
            targets=targets,
            after=after,
            follow=follow,
            patience=self.timeout,
        )

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: bool) -> Any:
        parcel = self.client.shipper.pack((args, kwargs))
        return self._finish(self._submit(f, [parcel], [1], single=True), block)

    def _submit(
        self, f: Callable[..., Any], parcels: list[Any], sizes: list[int], kind: str = "call", **how: Any
    ) -> ViewResult:
        function = self.client.shipper.function(f, kind, self.copy)
        parts, start = [], 0
        for size in sizes:
            parts.append(Part(start, size, None))
            start += size
        result = ViewResult(self.client._connection, name_of(f), parts, copy=self.copy, **how)
        if parts:
            options = self._options()
            result.label = self.label
            result.after_ids, result.follow_ids = list(options.after or ()), list(options.follow or ())
            self.client.submit(result, function, parcels, [options])
        return result

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        block: bool | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Any:
        """``list(map(f, *sequences))``, balanced over the engines.

        Args:
            f: called with an item of each sequence.
            sequences: drawn at once; the shortest counts.
            block: wait for the list; as the view does, by default.
            chunksize: items to a task; by default one, but where that made more than TASKS tasks, as many as make so many.
            ordered: iterating over the result gives values in order, rather than as they arrive.
            return_exceptions: put an item's exception where its value would be, rather than raise.
        """
        if not sequences:
            raise TypeError("map needs at least one sequence")
        if chunksize is not None and (isinstance(chunksize, bool) or not isinstance(chunksize, int) or chunksize < 1):
            raise ValueError(f"chunksize must be 1 or more, not {chunksize!r}")
        whole = drawn(sequences)
        size = min(map(len, whole))
        chunksize = chunksize or -(-size // TASKS) or 1
        pack = self.client.shipper.pack
        starts = range(0, size, chunksize)
        result = self._submit(
            f,
            [
                pack(tuple(partition.cut(items, slice(start, min(size, start + chunksize))) for items in whole))
                for start in starts
            ],
            [min(chunksize, size - start) for start in starts],
            "each" if return_exceptions else "map",
            per_item=True,
            ordered=ordered,
            return_exceptions=return_exceptions,
        )
        return self._finish(result, block)

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Any,
        ordered: bool = True,
        max_outstanding: int | str = "auto",
        return_exceptions: bool = False,
    ) -> LazyMapIterator:
        """As ``map``, lazily: sequences may be endless.

        Args:
            f: called with an item of each sequence.
            sequences: drawn as values are taken.
            ordered: give values in order, rather than as they arrive.
            max_outstanding: calls that are open at a time: "auto" is two for each engine, 0 as many as there are items.
            return_exceptions: give an item's exception, rather than raise it.

        Returns:
            an iterator; its ``cancel`` ends it.
        """
        if not sequences:
            raise TypeError("imap needs at least one sequence")
        if max_outstanding == "auto":
            max_outstanding = 2 * len(self)
        if isinstance(max_outstanding, bool) or not isinstance(max_outstanding, int) or max_outstanding < 0:
            raise ValueError(f"max_outstanding must be 'auto' or a number, 0 for no limit, not {max_outstanding!r}")
        rows = zip(*sequences, strict=False)
        submit = partial(self._apply, f, kwargs={}, block=False)
        return LazyMapIterator((submit(args=row) for row in rows), max_outstanding or None, ordered, return_exceptions)

    @property
    def executor(self) -> ViewExecutor:
        """An Executor on this view, for libraries that want one."""
        return ViewExecutor(self)

    def _map_options(self, f: ParallelFunction) -> dict[str, Any]:
        return {"chunksize": f.chunksize, "ordered": f.ordered}

    def _call_on_parts(self, f: ParallelFunction, *sequences: Any) -> Any:
        # One part to each item, or to ``chunksize`` of them, as IPython's parallel package has it.
        whole = tuple(map(partition.as_sequence, sequences))
        parts = equal_parts(whole, -(-len(whole[0]) // (f.chunksize or 1)) or 1, f.dist, same_length=True)
        if not parts:
            return []
        result = self._submit(
            f.func,
            [self.client.shipper.pack((part, {})) for part in parts],
            [1] * len(parts),
            ordered=f.ordered,
            return_exceptions=f.return_exceptions,
            shape=partial(partition.join, dist=f.dist),
        )
        return self._finish(result, None)


__all__ = ["LoadBalancedView"]
