"""Which arenas this process can reach, and its own. Light: it is loaded with every pool, the rest when there is large data.

A *door* is a descriptor of an arena's file, with the token that the arena is known by. An engine is given one to its
client's arena; a client keeps one to each of its engines' arenas (it makes the files: so it has them whenever an engine dies).
A process's own arena is made when first needed, in the file of its *home*: each pool holds that, and when nobody does any
more, no pool and no array, the file goes.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from zexec.wire.arena.owner import Arena
    from zexec.wire.arena.reader import Attached

#: bytes of a token
TOKEN = 16

T = TypeVar("T")


def make_file(name: str) -> int:
    """A descriptor of a new file that has no name: it is gone when nobody has it open or mapped.

    Raises:
        OSError: there is no such thing here, or no descriptor left.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "no memfd_create")
    return os.memfd_create(name, os.MFD_CLOEXEC)


def is_wanted() -> bool:
    """Whether large data is to move through shared memory: not with ``ZEXEC_SHM_BYTES=0``."""
    return os.environ.get("ZEXEC_SHM_BYTES", "").strip() != "0" and hasattr(os, "memfd_create")


class Door:
    """A descriptor of an arena's file. Travels to a process that is being started, like a Connection."""

    __slots__ = ("__weakref__", "_pid", "fd", "token")

    def __init__(self, fd: int, token: bytes | None = None) -> None:
        self.fd = fd
        self.token = os.urandom(TOKEN) if token is None else token
        self._pid = os.getpid()

    def __reduce__(self) -> Any:
        return _arrive, (reduction.DupFd(self.fd), self.token)

    # The defaults: at the end of a program this module may be empty already.
    def __del__(self, getpid: Callable[[], int] = os.getpid, close: Callable[[int], None] = os.close) -> None:
        # A forked process uses the descriptor that it has inherited, until it ends.
        if getpid() == self._pid:
            close(self.fd)


def _arrive(duplicate: Any, token: bytes) -> Door:
    return Door(duplicate.detach(), token)


# -- other processes' arenas -----------------------------------------------------------------------------------------

_doors: dict[bytes, Door] = {}
_attached: dict[bytes, Attached] = {}
_gate = threading.Lock()


def open_door(door: Door) -> None:
    """Remember where an arena is."""
    _doors[door.token] = door


def shut_door(token: bytes) -> None:
    """Forget that; what has been received stays good."""
    _doors.pop(token, None)
    _attached.pop(token, None)


def attach(token: bytes, pid: int, fd: int) -> Attached | None:
    """The arena with this token, or None if it cannot be reached.

    Args:
        token: what it is known by.
        pid, fd: process and descriptor that have it, for a way through ``/proc`` where there is no door.
    """
    attached = _attached.get(token)
    if attached is not None:
        return attached
    from zexec.wire.arena.reader import Attached

    with _gate:
        attached = _attached.get(token)
        if attached is None:
            try:
                door = _doors.get(token) or _look_in_proc(token, pid, fd)
                attached = _attached[token] = Attached(door)
            except OSError:
                return None
    return attached


def _look_in_proc(token: bytes, pid: int, fd: int) -> Door:
    path = f"/proc/{pid}/fd/{fd}"
    # First by its name: to open what is no file may wait for ever, or do something.
    if not os.readlink(path).startswith("/memfd:zexec"):
        raise OSError(errno.ENOENT, "no arena")
    return Door(os.open(path, os.O_RDWR | os.O_CLOEXEC), token)


# -- this process's own ----------------------------------------------------------------------------------------------


class Home:
    """The place of this process's arena. Whoever holds it keeps the arena."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._arena: Arena | None = None

    @property
    def arena(self) -> Arena:
        """The arena; made when first asked for."""
        if self._arena is None:
            from zexec.wire.arena.owner import Arena

            with _gate:
                if self._arena is None:
                    global _arena
                    self._arena = Arena(self.door)
                    _arena = weakref.ref(self._arena)
        return self._arena


_home: weakref.ref[Home] | None = None
#: its arena may outlive it, for the sake of arrays; the next home is the same then
_arena: weakref.ref[Arena] | None = None
#: in an engine: for as long as it lives
_engine_home: Home | None = None


def _alive(what: weakref.ref[T] | None) -> T | None:
    return None if what is None else what()


def home() -> Home | None:
    """This process's home, for whoever wants to hold it; None where there can be none."""
    global _home
    if not is_wanted():
        return None
    with _gate:
        found = _alive(_home)
        if found is None:
            left = _alive(_arena)
            try:
                found = Home(left.door if left else Door(make_file("zexec-arena")))
            except OSError:
                return None
            found._arena = left
            _home = weakref.ref(found)
        return found


class Rooms:
    """What an engine is given to share memory with its client: a file for an arena of its own, and a door to the client's.

    Travels to its process.
    """

    def __init__(self, client: Home) -> None:
        self.own = Door(make_file("zexec-arena"))
        self.client = client.door
        open_door(self.own)

    def move_in(self) -> None:
        """In the engine's process, first of all."""
        global _home, _engine_home
        for token, door in list(_doors.items()):
            # Others', that fork has copied: they would keep their memory.
            if token != self.own.token and token != self.client.token:
                os.close(door.fd)
        _doors.clear()
        open_door(self.client)
        _engine_home = Home(self.own)
        _home = weakref.ref(_engine_home)

    def close(self) -> None:
        """In the client's process, when the engine has ended: what has been received of it stays good."""
        shut_door(self.own.token)


def rooms(client: Home | None) -> Rooms | None:
    """Rooms for an engine that is about to be started; None where there can be none."""
    if client is None:
        return None
    try:
        return Rooms(client)
    except OSError:
        return None


def own(token: bytes) -> Arena | None:
    """This process's arena, if that is what the token says."""
    found = _alive(_arena)
    return found if found and found.door.token == token else None


def trim() -> float | None:
    """Give back memory that this process's arena has not used for a while.

    Returns:
        when to come again, in monotonic seconds; None if there is nothing to come for.
    """
    found = None if _arena is None else _arena()
    return None if found is None else found.trim_at(monotonic())


def arena() -> Arena | None:
    """This process's arena, if anybody holds its home."""
    found = _alive(_home)
    return found.arena if found else None


def _after_fork_in_child() -> None:
    global _gate, _home, _engine_home, _arena
    _gate = threading.Lock()
    _home = _engine_home = _arena = None
    _attached.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
