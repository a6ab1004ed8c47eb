"""Puts a client, a hub and local engines together: what Pool and Executor stand on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from zexec.client import Client
from zexec.core.scheduler import Scheduler
from zexec.hub.thread import HubThread
from zexec.launch.local import LocalLauncher
from zexec.net.bell import Bell
from zexec.net.channels import HubChannel
from zexec.net.pipes import PipeHub
from zexec.outcomes import Face

DEATH_POLICIES = ("replace", "break")


def pipes(bell: Bell) -> HubChannel:
    """Channels for engines that are children of this process."""
    return PipeHub(bell.watch, bell.unwatch, bell.want_write)


def check_policies(on_engine_death: str, max_memory: int | None) -> None:
    """Refuse what a user cannot mean.

    Raises:
        TypeError, ValueError: the message says which and what would be possible.
    """
    if on_engine_death not in DEATH_POLICIES:
        raise ValueError(f"on_engine_death must be one of {', '.join(DEATH_POLICIES)}, not {on_engine_death!r}")
    if max_memory is not None:
        if isinstance(max_memory, bool) or not isinstance(max_memory, int):
            raise TypeError(f"max_memory must be a whole number of bytes or None, not {max_memory!r}")
        if max_memory <= 0:
            raise ValueError(f"max_memory must be greater than 0 bytes, not {max_memory!r}; None means no limit")


def local_client(
    face: Face,
    context: Any,
    processes: int,
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
    allowance: int | None,
    *,
    on_demand: bool,
    begin: bool,
    on_engine_death: str,
    rename: Callable[[str], str] | None = None,
    max_memory: int | None = None,
    channel: Callable[[Bell], HubChannel] = pipes,
) -> Client:
    """A client with a hub of its own and engines in this machine.

    Args:
        face: the interface it serves.
        context: multiprocessing context that starts the engines, None for the default one.
        processes: number of engines.
        initializer, initargs: run in each engine before its first task.
        allowance: tasks after which an engine is replaced.
        on_demand: start engines as tasks need them.
        begin: start all now, in this thread.
        on_engine_death: "replace", or "break" as in the stdlib.
        rename: what to make of the processes' names.
        max_memory: bytes of memory from which on an engine is replaced.
        channel: makes what carries messages to the engines.
    """
    check_policies(on_engine_death, max_memory)
    if context is None:
        context = multiprocessing.get_context()
    client = Client(face, forked=context.get_start_method() == "fork")
    scheduler = Scheduler(
        processes, on_demand=on_demand, allowance=allowance, break_on_death=on_engine_death == "break"
    )
    launcher = LocalLauncher(context, initializer, initargs, allowance, rename, max_memory)
    client.start(HubThread(scheduler, launcher, client.deliver, client.hear, client.ended, channel), begin)
    return client
