"""What a hub process remembers of tasks: in memory (``memory``, bounded) or in a file (``sqlite``, which survives the hub).

A hub notes three things of each task: that it was accepted, to which engine it was sent, how it ended. Notes are cheap and
block nobody; each returns a *ticket*, and once ``durable`` has reached it the note will outlive the hub's process, however
that ends. So whoever must not lose a task or a result goes on when its ticket is durable::

    a client's task    accepted() ─► durable ─► the scheduler gets it, the client hears that the hub has it
    a result           settled()  ─► durable ─► the client gets it, the engine may forget it

Tasks are known by ``Task.id``, which is unique among all that a cluster ever has, and not only of one hub's life: whoever
hands out ids sees to that. Stores never look into payloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from zexec.core.dependencies import Condition, End, Needs
from zexec.messages import Function, Outcome, Task
from zexec.records.entry import Entry
from zexec.records.query import Query

T = TypeVar("T")


@dataclass(slots=True)
class Restored:
    """An open task that a store has kept."""

    task: Task
    client: str
    needs: Needs | None
    #: how those of its parents ended that have
    ended: dict[int, End]
    #: the engine that it was last known to be sent to; None: none, as far as is known
    engine_uuid: str | None


class Reading(Protocol):
    """What can be asked of a store. Blocks: a hub asks through ``Store.ask``."""

    def find(self, query: Query, keys: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Records that match, oldest first, with these keys: all but the buffers by default, and always msg_id.

        Raises:
            TypeError, ValueError: that is no query, or a key does not exist.
        """
        ...

    def history(self) -> list[str]:
        """Ids of all tasks, in the order of their submission."""
        ...

    def status(self, ids: Iterable[int]) -> dict[int, int | None]:
        """How tasks ended, None for those that are open. Those that are not known are left out."""
        ...

    def outcome(self, id: int) -> Outcome | None:
        """A task's outcome with its result, if it has ended.

        Raises:
            KeyError: nothing is known of the task; the message says so.
        """
        ...

    def entry(self, id: int) -> tuple[Entry, Function]:
        """All that is known of a task, to submit it again.

        Raises:
            KeyError: nothing is known of the task.
        """
        ...


class Store(Reading, Protocol):
    """A hub's memory. The notes are the hub's thread's; the rest is for any thread."""

    #: the newest ticket whose note, and all before it, will survive
    durable: int
    #: called, in any thread, when ``durable`` has grown, or ``trouble`` come or gone
    on_durable: Callable[[], None]
    #: why notes cannot be made durable just now, or None
    trouble: str | None

    def accepted(
        self, tasks: Sequence[Task], client: str, needs: Any = None, label: str | None = None, now: float | None = None
    ) -> int:
        """Note tasks that a client has submitted. Those that are known already are left as they are.

        Args:
            tasks: they.
            client: its name.
            needs: for tasks that wait for others: what ``plain_needs`` made.
            label: a text that the user gave them.
            now: the time, in seconds since 1970.
        """
        ...

    def sent(self, tasks: Iterable[Task], engine: int, engine_uuid: str, now: float | None = None) -> None:
        """Note that tasks were sent to an engine. For people, and to know after a crash what may have run."""
        ...

    def settled(self, outcomes: Iterable[Outcome], now: float | None = None) -> int:
        """Note how tasks ended."""
        ...

    def resubmitted(self, id: int, new: int) -> None:
        """Note that a task was submitted again, as another."""
        ...

    def drop(self, ids: Iterable[int] | None) -> None:
        """Forget tasks, all by default. Those that are open stay."""
        ...

    def reload(self) -> list[Restored]:
        """The open tasks, in the order of their submission. For a hub that starts."""
        ...

    def set(self, name: str, value: str) -> int:
        """Note a fact about the cluster."""
        ...

    def get(self, name: str) -> str | None:
        """A fact about the cluster, if it was noted."""
        ...

    def ask(self, question: Callable[[Reading], T], answer: Callable[[T | Exception], None]) -> None:
        """Have a question answered that may take long, elsewhere; ``answer`` is called there, soon or later."""
        ...

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all notes are durable. Whether they are."""
        ...

    def close(self) -> None:
        """Make all notes durable, and end."""
        ...


def open_store(kind: str, path: Path | None = None) -> Store:
    """A store by name: ``memory``, or ``sqlite`` in the file at ``path``.

    Raises:
        ValueError: there is no such kind.
        StoreError: the file cannot be used; the message says why.
    """
    if kind == "memory":
        from zexec.hub.store.memory import MemoryStore

        return MemoryStore()
    if kind == "sqlite":
        from zexec.hub.store.sqlite import SqliteStore

        if path is None:
            raise ValueError("a store of kind 'sqlite' is in a file: say in which")
        return SqliteStore(path)
    raise ValueError(f"no kind of store is called {kind!r}: there are 'memory' and 'sqlite'")


# -- what tasks wait for, as plain data ------------------------------------------------------------------------------


def plain_needs(needs: Needs, ended: dict[int, End] | None = None) -> dict[str, Any]:
    """What a task waits for, as plain data."""

    def plain(condition: Condition | None) -> Any:
        if condition is None:
            return None
        return [sorted(condition.ids), condition.all, condition.success, condition.failure]

    # Without the serials of engines: a hub that has been started anew counts from the beginning.
    ends = [[id, ok, engine] for id, (ok, engine, _) in (ended or {}).items()]
    return {"after": plain(needs.after), "follow": plain(needs.follow), "patience": needs.patience, "ended": ends}


def needs_of(plain: Any) -> tuple[Needs, dict[int, End]]:
    """What ``plain_needs`` made plain; ends may have the engines' serials behind them. It may come from anybody.

    Raises:
        Exception: it did not make this.
    """

    def condition(parts: Any) -> Condition | None:
        if parts is None:
            return None
        ids, every, success, failure = parts
        return Condition(frozenset(map(int, ids)), bool(every), bool(success), bool(failure))

    patience = plain["patience"]
    needs = Needs(condition(plain["after"]), condition(plain["follow"]), None if patience is None else float(patience))
    ends = plain["ended"]
    return needs, {int(id): (bool(ok), int(engine), int(*serial)) for id, ok, engine, *serial in ends}
