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


def sockets(bell: Bell) -> HubChannel:
    """Channels for any engine in this machine, over ZeroMQ."""
    from zexec.net.sockets import SocketHub

    return SocketHub(None, bell.watch, bell.unwatch)


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
        channel: makes what carries messages to the engines.
    """
    if on_engine_death not in DEATH_POLICIES:
        raise ValueError(f"on_engine_death must be one of {', '.join(DEATH_POLICIES)}, not {on_engine_death!r}")
    if context is None:
        context = multiprocessing.get_context()
    client = Client(face, forked=context.get_start_method() == "fork")
    scheduler = Scheduler(
        processes, on_demand=on_demand, allowance=allowance, break_on_death=on_engine_death == "break"
    )
    launcher = LocalLauncher(context, initializer, initargs, allowance, rename)
    client.start(HubThread(scheduler, launcher, client.deliver, client.hear, client.ended, channel), begin)
    return client
