"""What can be asked about tasks: the part of a Client that answers questions and forgets results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zexec.views.book import Book
from zexec.views.memory import record_of

if TYPE_CHECKING:
    from zexec.views.book import Jobs, Targets


class Queries(Book):
    """Base of Client."""

    def queue_status(self, targets: Targets = "all", verbose: bool = False) -> dict[Any, Any]:
        """How busy engines are.

        Returns:
            by engine: ``tasks`` that it runs or holds, ``queue`` that wait for it alone, ``completed`` on it. And
            ``"unassigned"``: those that wait for any engine. In a cluster, of all its clients. With ``verbose`` ids instead of
            numbers, but for ``completed``: those of this client's tasks; in a cluster also, by engine, how many ``others`` it
            has or has waiting, which are other clients'.

        Raises:
            ClusterError: the hub of the cluster does not answer.
        """
        chosen = self.resolve(targets)
        ask = self._connection.ask
        if ask is not None and not verbose:
            rows, waiting = ask("queues")
            counts = {id: {"queue": queue, "tasks": held, "completed": ended} for id, queue, held, ended in rows}
            none = {"queue": 0, "tasks": 0, "completed": 0}
            found: dict[Any, Any] = {id: counts.get(id, dict(none)) for id in chosen}
            return {**found, "unassigned": waiting} if not isinstance(targets, int) else found[chosen[0]]
        running: dict[int, list[str]] = {id: [] for id in chosen}
        queued: dict[int, list[str]] = {id: [] for id in chosen}
        unassigned = []
        at = self._connection.whereabouts(int(msg_id) for msg_id in self.outstanding)
        for result in list(self._open.values()):
            for part in result._parts:
                if part.done or not part.msg_id:
                    continue
                engine = at.get(int(part.msg_id))
                if engine is not None:
                    if engine in running:
                        running[engine].append(part.msg_id)
                elif part.target is None:
                    unassigned.append(part.msg_id)
                elif part.target in queued:
                    queued[part.target].append(part.msg_id)
        status: dict[Any, Any] = {
            id: {
                "queue": queued[id] if verbose else len(queued[id]),
                "tasks": running[id] if verbose else len(running[id]),
                "completed": self._completed.get(id, 0),
            }
            for id in chosen
        }
        if ask is not None:
            for id, queue, held, ended in ask("queues")[0]:
                if id in running:
                    mine = len(queued[id]) + len(running[id])
                    status[id].update(completed=ended, others=max(0, queue + held - mine))
        status["unassigned"] = unassigned if verbose else len(unassigned)
        return status if not isinstance(targets, int) else status[chosen[0]]

    def result_status(self, jobs: Jobs, status_only: bool = True) -> dict[str, Any]:
        """Which tasks have ended: ids under ``completed`` and ``pending``; unless ``status_only`` what they gave, by id.

        In a cluster also of other clients' tasks; what those gave is had by ``get_result``.

        Raises:
            KeyError: the hub of the cluster knows nothing of one of them.
        """
        ids = self._ids_of(jobs)
        outstanding = self.outstanding
        mine, ask = set(self.history), self._connection.ask
        others = [msg_id for msg_id in ids if msg_id not in mine]
        if ask is not None and others:
            ends = {str(id): status for id, status in ask("ends", list(map(int, others)))}
            unknown = [msg_id for msg_id in others if msg_id not in ends]
            if unknown:
                raise KeyError(f"nothing is known of task {unknown[0]!r}")
            outstanding |= {msg_id for msg_id in others if ends[msg_id] is None}
        pending = [msg_id for msg_id in ids if msg_id in outstanding]
        completed = [msg_id for msg_id in ids if msg_id not in outstanding]
        content: dict[str, Any] = {"pending": pending, "completed": completed}
        if not status_only:
            results = self.results
            content.update({msg_id: results[msg_id] for msg_id in completed if msg_id in results})
        return content

    def purge_results(self, jobs: Jobs = (), targets: Targets = ()) -> None:
        """Forget results that have ended.

        Args:
            jobs: ids, places in the history, results, or "all".
            targets: those of these engines.

        Raises:
            RuntimeError: one of the jobs has not ended.
        """
        if isinstance(jobs, str) and jobs == "all":
            mine = set(self.history)
            ids = [msg_id for msg_id in (*list(self._results), *self._memory.records()) if msg_id in mine]
        else:
            ids = self._ids_of(jobs)
        if targets:
            only = set(self.resolve(targets))
            ids += [msg_id for msg_id, data in self.metadata.items() if data.engine_id in only and data.status]
        still = self.outstanding.intersection(ids)
        if still:
            raise RuntimeError(f"results of tasks that have not ended cannot be purged: {', '.join(sorted(still))}")
        for msg_id in ids:
            self._results.pop(msg_id, None)
        self._memory.forget(ids)

    def purge_local_results(self, jobs: Jobs = (), targets: Targets = ()) -> None:
        """As ``purge_results``, which leaves alone what the hub of a cluster keeps."""
        self.purge_results(jobs, targets)

    def purge_hub_results(self, jobs: Jobs = (), targets: Targets = ()) -> None:
        """As ``purge_results``, for what the hub of a cluster keeps: of all its clients, if all is named.

        In a pool, whose hub keeps nothing of its own, as ``purge_results``.

        Raises:
            ClusterError: one of the jobs has not ended.
        """
        ask = self._connection.ask
        if ask is None:
            self.purge_results(jobs, targets)
            return
        everything = isinstance(jobs, str) and jobs == "all"
        ids = None if everything else [int(msg_id) for msg_id in self._ids_of(jobs)]
        engines = self.resolve(targets) if targets else []
        if everything or ids or engines:
            ask("purge", [ids, [] if everything else engines])

    def purge_everything(self) -> None:
        """Forget all results that have ended, and the history."""
        self.purge_results("all")
        self._memory.forget()
        self.history.clear()

    def hub_history(self) -> list[str]:
        """Ids of the tasks of which something is known, oldest first: open ones, and the newest that have ended.

        In a cluster: those of all its clients, as far as its store goes back.
        """
        ask = self._connection.ask
        if ask is not None:
            return list(ask("history"))
        return sorted(self._known(), key=int)

    def _known(self) -> dict[str, dict[str, Any]]:
        """Records by id."""
        known = self._memory.records()
        for msg_id, result in list(self._results.items()):
            part = result.part_of(msg_id) if msg_id not in known else None
            if part is not None and not part.done:
                known[msg_id] = record_of(result, part)
        return known

    def db_query(self, query: dict[str, Any], keys: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Records of tasks, oldest first: of those in ``hub_history``.

        Args:
            query: as for MongoDB: ``{"engine_id": 1, "completed": {"$gt": when}}``; ``{}`` for all.
            keys: what of the records; all but buffers, by default. ``msg_id`` is there in any case.

        Raises:
            TypeError, ValueError: that is no query, or there is no such key; the message says what there is.
            ClusterError: the hub of the cluster does not answer.
        """
        from zexec.records.entry import check_keys
        from zexec.records.query import lookup_in, matcher, select

        chosen, matches = check_keys(keys), matcher(query)
        ask = self._connection.ask
        if ask is not None:
            from zexec.records.plain import dump_plain, load_plain

            return list(load_plain(ask("find", [dump_plain(dict(query)), list(chosen)])))
        found = [record for _, record in sorted(self._known().items(), key=lambda item: int(item[0]))]
        return [select(record, chosen) for record in found if matches(lookup_in(record))]


__all__ = ["Queries"]
