"""What clients ask a hub, and order it, beyond their own tasks. Plain data in, plain data out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from zexec.hub.desk import Later
from zexec.hub.report import dump
from zexec.hub.store import Reading
from zexec.messages import Ask
from zexec.records.entry import status_name
from zexec.records.plain import dump_plain, load_plain
from zexec.records.query import matcher

if TYPE_CHECKING:
    from zexec.hub.process import HubProcess

#: Tasks that ``status`` lists at most where it lists some.
SOME = 20


class Orders:
    """Answers for one hub."""

    def __init__(self, process: HubProcess) -> None:
        self._process = process
        self._by_name: dict[str, Callable[[Any], Any]] = {
            "is_running": lambda id: self._scheduler.is_running(int(id)),
            "whereabouts": lambda ids: [[id, at] for id, at in self._scheduler.whereabouts(map(int, ids)).items()],
            "story": self._story,
            "explain": lambda id: self._scheduler.explain(int(id)),
            "places": lambda _: self._scheduler.open_places,
            "queues": lambda _: self._queues(),
            "drain": self._drain,
            "engines": lambda _: self._engines(),
            "status": lambda _: self._status(),
            "stuck": lambda _: self._stuck(),
            "dump": lambda _: dump(self._process.hub),
            "signal": lambda args: self._process.hub.signal([int(id) for id in args[0]], int(args[1])),
            "scale": lambda args: self._process.provider.scale(int(args[0]), None if args[1] is None else int(args[1])),
            "find": self._find,
            "history": lambda _: self._later(lambda store: store.history()),
            "ends": lambda ids: self._later(lambda store: self._ends(store, ids)),
            "purge": self._purge,
            "shutdown": self._shut_down,
        }

    @property
    def _scheduler(self) -> Any:
        return self._process.hub.scheduler

    def answer(self, ask: Ask) -> Any:
        """The answer to a question.

        Raises:
            ValueError: nobody knows what it means.
        """
        found = self._by_name.get(ask.what)
        if found is None:
            raise ValueError(f"this hub does not know what {ask.what!r} is")
        return found(ask.args)

    def _queues(self) -> Later:
        """By place: what waits for it, what it has, what has ended there; and what waits for any. Of all clients."""
        # What came before the question counts.
        return Later(lambda take: self._process.keeper.when_in(lambda: take(self._count())))

    def _count(self) -> Any:
        self._process.hub.turn()
        places, others = self._scheduler.queues()
        completed = self._process.desk.completed
        ended = {id: count for id, count in completed.items() if id >= 0}
        rows = [[id, *places.get(id, (0, 0)), ended.get(id, 0)] for id in {*places, *ended}]
        return [rows, others]

    def _story(self, id: Any) -> Any:
        # Times of this machine's monotonic clock mean nothing on another: so how long ago.
        now = monotonic()
        return [[now - when, what] for when, what in self._scheduler.story(int(id))]

    def _shut_down(self, why: Any) -> None:
        self._process.wanted_end = str(why) or "it was stopped"

    # -- what the store remembers --------------------------------------------------------------------------------------

    def _later(self, question: Callable[[Reading], Any]) -> Later:
        """The store answers, in a thread of its own: it may take long."""
        store, ring = self._process.keeper.store, self._process.ring

        def ask(take: Callable[[Any], None]) -> None:
            def answer(found: Any) -> None:
                take(found)
                ring()

            store.ask(question, answer)

        return Later(ask)

    def _find(self, args: Any) -> Later:
        text, keys = args
        query = load_plain(text)
        matcher(query)  # now, so that what is no query is refused before anybody works for it
        return self._later(lambda store: dump_plain(store.find(query, keys)))

    def _ends(self, store: Reading, ids: Any) -> Any:
        return [[id, status_name(status)] for id, status in store.status(map(int, ids)).items()]

    def _purge(self, args: Any) -> Any:
        """Forget tasks that have ended: these, those of these engines, or all."""
        ids, engines = args
        store = self._process.keeper.store
        if ids is None and not engines:
            store.drop(None)
            return None
        wanted = [int(id) for id in ids or ()]
        still = [id for id in wanted if id in self._scheduler.tasks]
        if still:
            raise ValueError(f"tasks that have not ended cannot be purged: {', '.join(map(str, still))}")
        store.drop(wanted)
        if not engines:
            return None
        query = {"engine_id": {"$in": [int(id) for id in engines]}, "status": {"$ne": None}}

        def of_engines(reading: Reading) -> None:
            store.drop([int(record["msg_id"]) for record in reading.find(query, "msg_id")])

        return self._later(of_engines)

    def _drain(self, args: Any) -> None:
        ids, restart = args
        self._process.provider.dismiss([int(id) for id in ids], bool(restart))

    def _engines(self) -> list[dict[str, Any]]:
        found = []
        for id, member in sorted(self._process.roster.current.items()):
            engine = self._scheduler.fleet.engines.get(member.serial)
            running = None if engine is None else next(iter(engine.held.values()), None)
            found.append(
                {
                    "id": id,
                    "pid": member.peer.pid,
                    "host": member.peer.host,
                    "python": member.peer.python,
                    "executable": member.peer.executable,
                    "numpy": member.peer.numpy,
                    "clock_ahead": round(member.ahead, 3),
                    "state": "gone" if engine is None else "draining" if engine.draining else engine.state,
                    "holds": 0 if engine is None else len(engine.held),
                    "runs": None if running is None else running.function.name,
                    "up_for": time() - member.since,
                }
            )
        return found

    def _status(self) -> dict[str, Any]:
        process, scheduler = self._process, self._scheduler
        return {
            "name": process.settings.name,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "python": sys.version.split()[0],
            "up_for": time() - process.began,
            "broken": None if scheduler.broken is None else str(getattr(scheduler.broken, "reason", scheduler.broken)),
            "places": scheduler.places,
            "engines": self._engines(),
            "provider": process.provider.status(),
            "clients": [visitor.facts() for visitor in process.desk.visitors.values() if visitor.name],
            "tasks": {"open": len(scheduler.tasks), "waiting": len(scheduler.ready) + len(scheduler.pinned)},
            "damaged": process.roster.damaged,
            "store": {"kind": process.settings.store, "trouble": process.keeper.store.trouble},
        }

    def _stuck(self) -> list[dict[str, Any]]:
        """Engines whose oldest task has run longest, and what they say of it."""
        now, found = monotonic(), []
        for engine in self._scheduler.fleet.engines.values():
            if not engine.held:
                continue
            task = next(iter(engine.held.values()))
            found.append(
                {
                    "engine": engine.id,
                    "task": task.id,
                    "function": task.function.name,
                    "seconds": now - engine.progress,
                    "behind_it": len(engine.held) - 1,
                    "what": self._scheduler.explain(task.id),
                }
            )
        return sorted(found, key=lambda each: -each["seconds"])[:SOME]
