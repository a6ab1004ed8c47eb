"""What all views have: flags, calls, maps, and what the client knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from zexec.views import partition
from zexec.views.functions import ParallelFunction, RemoteFunction, parallel, remote
from zexec.views.results import ViewResult

if TYPE_CHECKING:
    from zexec.views.book import Jobs, Targets
    from zexec.views.client import Client


class View:
    """Base of DirectView and LoadBalancedView. Its flags are attributes.

    Attributes:
        block: calls wait and return values, rather than results.
        track: kept; a result knows when it is ``sent`` in any case, which is as soon as the call has returned, but for arrays in
            shared memory.
        targets: engines.
        timeout: seconds: how long a task of a DirectView may run, or one of a balanced view wait for others.
        copy: arrays arrive as writable copies, on engines and here. Without it they are read-only.
        label: kept with the view; a name for people.
    """

    #: what ``set_flags`` takes
    FLAGS: tuple[str, ...] = ("block", "track", "targets", "timeout", "copy", "label")

    def __init__(self, client: Client, **flags: Any) -> None:
        self.client = client
        self.block: bool = client.block
        self.track = False
        self.targets: Targets = None
        self.timeout: float | None = None
        self.copy = False
        self.label: str | None = None
        #: ids of the tasks of this view, oldest first
        self.history: list[str] = []
        self.set_flags(**flags)

    def set_flags(self, **flags: Any) -> View:
        """Set flags; returns the view.

        Raises:
            KeyError: there is no such flag.
        """
        for name in flags:
            if name not in self.FLAGS:
                raise KeyError(f"no flag {name!r}: there are {', '.join(self.FLAGS)}")
        for name, value in flags.items():
            setattr(self, name, value)
        return self

    @contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[View]:
        """Set flags for the length of a ``with``."""
        before = {name: getattr(self, name) for name in self.FLAGS}
        try:
            yield self.set_flags(**flags)
        finally:
            self.set_flags(**before)

    # -- calls -------------------------------------------------------------------------------------------------------

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``f(*args, **kwargs)`` on the view's engines: a result, or with ``block`` its value.

        Raises:
            Exception: what pickling the call raises.
        """
        return self._apply(f, args, kwargs, self.block)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ViewResult:
        """As ``apply``, without waiting."""
        result: ViewResult = self._apply(f, args, kwargs, False)
        return result

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As ``apply``, waiting for the value."""
        return self._apply(f, args, kwargs, True)

    def _apply(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], block: bool) -> Any:
        raise NotImplementedError

    # -- maps --------------------------------------------------------------------------------------------------------

    def map(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> Any:
        """``list(map(f, *sequences))`` over the view's engines: a result, or with ``block`` the list."""
        raise NotImplementedError

    def map_async(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> ViewResult:
        """As ``map``, without waiting."""
        _no_block("map_async", options)
        result: ViewResult = self.map(f, *sequences, block=False, **options)
        return result

    def map_sync(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> list[Any]:
        """As ``map``, waiting for the list."""
        _no_block("map_sync", options)
        values: list[Any] = self.map(f, *sequences, block=True, **options)
        return values

    def imap(self, f: Callable[..., Any], /, *sequences: Any, **options: Any) -> Iterator[Any]:
        """As ``map``, an iterator over the values as they arrive."""
        return iter(self.map_async(f, *sequences, **options))

    def _map_options(self, f: ParallelFunction) -> dict[str, Any]:
        """What of a ParallelFunction's options is for ``map``."""
        return {}

    def _call_on_parts(self, f: ParallelFunction, *sequences: Any) -> Any:
        """Call a function on parts of sequences, and put its values together."""
        raise NotImplementedError

    def _finish(self, result: ViewResult, block: bool | None) -> Any:
        self.history.extend(result.msg_ids)
        return result.get() if (self.block if block is None else block) else result

    # -- decorators --------------------------------------------------------------------------------------------------

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """Decorate a function so that calling it calls it on the view's engines."""
        return remote(self, block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Decorate a function so that calling it cuts its arguments into parts, one for each engine."""
        return parallel(self, dist, block, **flags)

    # -- what the client knows ---------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> set[str]:
        """Ids of this view's tasks that have not ended."""
        return self.client.outstanding.intersection(self.history)

    @property
    def results(self) -> dict[str, Any]:
        """As the client's, of this view's tasks."""
        mine = set(self.history)
        return {msg_id: value for msg_id, value in self.client.results.items() if msg_id in mine}

    def _jobs(self, jobs: Jobs) -> Jobs:
        if isinstance(jobs, int):
            return self.history[jobs]
        if isinstance(jobs, list | tuple | set):
            return [self._jobs(job) for job in jobs]
        return jobs

    def get_result(self, jobs: Jobs = None, block: bool | None = None, owner: bool = True) -> ViewResult:
        """As the client's; numbers are places in this view's history."""
        return self.client.get_result(self._jobs(-1 if jobs is None else jobs), block, owner)

    def wait(self, jobs: Jobs = None, timeout: float | None = -1) -> bool:
        """As the client's; this view's tasks by default."""
        return self.client.wait(self.outstanding if jobs is None else self._jobs(jobs), timeout)

    def abort(self, jobs: Jobs = None, targets: Targets = None, block: bool | None = None) -> None:
        """As the client's; this view's tasks by default."""
        self.client.abort(self.outstanding if jobs is None else self._jobs(jobs), targets, block)

    def queue_status(self, targets: Targets = None, verbose: bool = False) -> dict[Any, Any]:
        """As the client's; this view's engines by default."""
        return self.client.queue_status(self.targets if targets is None else targets, verbose)

    def purge_results(self, jobs: Jobs = (), targets: Targets = ()) -> None:
        """As the client's."""
        self.client.purge_results(jobs if isinstance(jobs, str) else self._jobs(jobs), targets)

    def send_signal(self, sig: int | str, targets: Targets = None, block: bool | None = None) -> None:
        """As the client's; this view's engines by default."""
        self.client.send_signal(sig, self.targets if targets is None else targets, block)

    def interrupt(self, targets: Targets = None, block: bool | None = None) -> None:
        """As the client's; this view's engines by default."""
        self.client.interrupt(self.targets if targets is None else targets, block)

    def spin(self) -> None:
        """Nothing: results arrive by themselves."""

    def use_pickle(self) -> None:
        """Nothing, kept for whoever is used to it: what plain pickle cannot do, cloudpickle does, by itself."""

    use_cloudpickle = use_pickle

    def shutdown(
        self, targets: Targets = None, restart: bool = False, hub: bool = False, block: bool | None = None
    ) -> None:
        """As the client's; this view's engines by default."""
        self.client.shutdown(self.targets if targets is None else targets, restart, hub, block)

    def __len__(self) -> int:
        return len(self.client.resolve(self.targets))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.targets if self.targets is not None else 'all'}>"


def _no_block(name: str, options: dict[str, Any]) -> None:
    if "block" in options:
        raise TypeError(f"{name} takes no 'block': its name says what it does")


def drawn(sequences: tuple[Any, ...]) -> list[Any]:
    """The sequences of a map as such that can be sliced; of those that are drawn no more than the shortest of the others has.

    One that cannot tell its length may be endless, as for the builtin, if another has an end.
    """
    sized = [len(sequence) for sequence in sequences if partition.is_sequence(sequence)]
    lazy = [sequence for sequence in sequences if not partition.is_sequence(sequence)]
    if not lazy:
        return list(sequences)
    if len(lazy) == 1 and not sized:
        return [list(lazy[0])]
    # In step, as the builtin draws them: by rows.
    rows = zip(*lazy, strict=False)
    columns = iter(
        list(map(list, zip(*(islice(rows, min(sized)) if sized else rows), strict=True))) or [[]] * len(lazy)
    )
    return [sequence if partition.is_sequence(sequence) else next(columns) for sequence in sequences]


def equal_parts(sequences: tuple[Any, ...], parts: int, dist: str, same_length: bool) -> list[tuple[Any, ...]]:
    """Cut sequences into parts, for a map or a ParallelFunction.

    Args:
        sequences: what is cut.
        parts: into how many; empty ones are left out.
        dist: how.
        same_length: it is an error if they differ; else the shortest counts, as for ``map``.

    Returns:
        for each part a tuple with the parts of each sequence.
    """
    whole = [partition.as_sequence(sequence) for sequence in sequences] if same_length else drawn(sequences)
    sizes = [len(sequence) for sequence in whole]
    size = min(sizes)
    if len(set(sizes)) > 1:
        if same_length:
            raise ValueError(f"sequences must have the same length, not {', '.join(map(str, sizes))}")
        whole = [partition.cut(sequence, slice(size)) for sequence in whole]
    cut = zip(*(partition.split(sequence, parts, dist) for sequence in whole), strict=True)
    return [part for part in cut if len(part[0])]
