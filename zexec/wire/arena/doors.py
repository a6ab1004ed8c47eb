"""Which arenas this process can reach, and its own. Light: it is loaded with every pool, the rest when there is large data.

A *door* is a descriptor of an arena's file, with the token that the arena is known by. An engine is given one to its
client's arena; a client keeps one to each of its engines' arenas (it makes the files: so it has them whenever an engine dies).
Processes that are given nothing tell each other their *address*, where ``/proc`` leads to the file, and look there for the
token: whoever reads it is on the same host, sees the same processes and may see into this one. Doors that were *found* so are
let go of when their arena's owner has ended, which shows by a lock that it has on its file, and nobody ``keep``s them any more.
A process's own arena is made when first needed, in the file of its *home*: each pool holds that, and when nobody does any
more, no pool and no array, the file goes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing import reduction
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from zexec.wire.arena.owner import Arena
    from zexec.wire.arena.reader import Attached

#: bytes of a token, what a header begins with, before its token, and where it ends at the latest: see ``table``
TOKEN = 16
MAGIC = b"zexecA1\n"
DATA_AT = 1 << 27
#: bytes of the file that are locked, beyond all data, because locks need no bytes: one for each row, and the owner's
LOCKS_AT = 1 << 62
OWNER_AT = LOCKS_AT - 1
#: Seconds between two looks whether owners of arenas that were found have ended.
TIDY = 1.0

_FLOCK = struct.Struct("@hhqqi4x")

T = TypeVar("T")
#: where another process of this host finds an arena: token, process, descriptor. Plain data
Address = tuple[str, int, int]


def make_file(name: str) -> int:
    """A descriptor of a new file that has no name: it is gone when nobody has it open or mapped.

    Raises:
        OSError: there is no such thing here, or no descriptor left.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "no memfd_create")
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    # Who has it mapped would be killed if it became shorter.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def is_wanted() -> bool:
    """Whether large data is to move through shared memory: not with ``ZEXEC_SHM_BYTES=0``."""
    return os.environ.get("ZEXEC_SHM_BYTES", "").strip() != "0" and hasattr(os, "memfd_create")


def is_locked(fd: int, at: int) -> bool:
    """Whether another process, one that lives, has locked this byte of a file."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
    (kind, *_) = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


class Door:
    """A descriptor of an arena's file. Travels to a process that is being started, like a Connection."""

    __slots__ = ("__weakref__", "_file", "_pid", "fd", "token")

    def __init__(self, fd: int, token: bytes | None = None) -> None:
        self.fd = fd
        self.token = os.urandom(TOKEN) if token is None else token
        self._pid = os.getpid()
        self._file: tuple[int, int] | None = None

    @property
    def file(self) -> tuple[int, int]:
        """Which file it is."""
        if self._file is None:
            status = os.fstat(self.fd)
            self._file = status.st_dev, status.st_ino
        return self._file

    def __reduce__(self) -> Any:
        return _arrive, (reduction.DupFd(self.fd), self.token)

    # The defaults: at the end of a program this module may be empty already.
    def __del__(self, getpid: Callable[[], int] = os.getpid, close: Callable[[int], None] = os.close) -> None:
        # A forked process uses the descriptor that it has inherited, until it ends.
        if self.fd >= 0 and getpid() == self._pid:
            close(self.fd)

    def shut(self) -> None:
        """Close it now."""
        fd, self.fd = self.fd, -1
        os.close(fd)


def _arrive(duplicate: Any, token: bytes) -> Door:
    return Door(duplicate.detach(), token)


# -- other processes' arenas -----------------------------------------------------------------------------------------

_doors: dict[bytes, Door] = {}
#: those that were found. A process has no two descriptors of one file: to close one would drop its locks on the file
_found: dict[bytes, Door] = {}
#: of those, the ones that something may come through also when their owner has ended, and how often that was said
_kept: dict[bytes, int] = {}
_attached: dict[bytes, Attached] = {}
_gate = threading.Lock()
_tidy_due = 0.0


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


def find(address: Any) -> bool:
    """Whether an arena can be reached that is said to be there; then ``attach`` will find it, also when its owner has ended."""
    try:
        text, pid, fd = address
        token = bytes.fromhex(text)
        with _gate:
            if token not in _doors and token not in (door.token for door in _own_doors()):
                _look_in_proc(token, int(pid), int(fd))
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


def keep(address: Any) -> bytes | None:
    """``find`` an arena, and do not let go of it before ``keep_no_more`` of what this returns, also when its owner has ended:
    what it has sent may be on its way still. None if it cannot be reached."""
    if not find(address):
        return None
    token = bytes.fromhex(address[0])
    with _gate:
        _kept[token] = _kept.get(token, 0) + 1
    return token


def keep_no_more(token: bytes) -> None:
    """Everything has come that could."""
    with _gate:
        _kept[token] -= 1
        if not _kept[token]:
            del _kept[token]


def _look_in_proc(token: bytes, pid: int, fd: int) -> Door:
    """Under the gate."""
    door = _found.get(token)
    if door is not None:
        return door
    path = f"/proc/{pid}/fd/{fd}"
    # First by its name: to open what is no file may wait for ever, or do something.
    if not os.readlink(path).startswith("/memfd:zexec"):
        raise OSError(errno.ENOENT, "no arena")
    status = os.stat(path)
    if _is_ours(status):
        raise OSError(errno.ENOENT, "another arena")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    status = os.fstat(fd)
    if (
        os.pread(fd, len(MAGIC) + TOKEN, 0) != MAGIC + token
        or status.st_size < DATA_AT
        or not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    ):
        if not _is_ours(status):  # has become so since we looked: then to close it would drop our locks
            os.close(fd)
        raise OSError(errno.ENOENT, "another arena")
    door = _found[token] = Door(fd, token)
    return door


def _is_ours(status: os.stat_result) -> bool:
    """Whether this process has a descriptor of this file: then it must have no other."""
    file = status.st_dev, status.st_ino
    return any(door.file == file for door in (*_own_doors(), *_doors.values(), *_found.values()))


def forget(all: bool = True) -> None:
    """Let go of arenas that were found: at once, or when nothing of theirs is in use here any more.

    Args:
        all: not only those whose owner has ended and that nobody keeps. What is sent of one later is found again.
    """
    for token, door in list(_found.items()):
        with _gate:
            if _found.get(token) is not door or (not all and token in _kept):
                continue
            attached = _attached.get(token)
            try:
                if not all and is_locked(door.fd, OWNER_AT):
                    continue
            except (OSError, ValueError):
                continue  # another thread has let go of the last that was in use of it just now, and so closed it
            if attached is not None:
                attached.leave()
            else:
                door.shut()
                del _found[token]


def shut_found(token: bytes) -> None:
    """The door to an arena that was found has been closed."""
    _found.pop(token, None)
    _attached.pop(token, None)


# -- this process's own ----------------------------------------------------------------------------------------------


class Home:
    """The place of this process's arena. Whoever holds it keeps the arena."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._arena: Arena | None = None
        self._address: Address | None = None

    @property
    def address(self) -> Address:
        """Where others of this host find it.

        Raises:
            OSError: there is no memory for it.
        """
        if self._address is None:
            fd, token = self.door.fd, self.door.token
            if os.fstat(fd).st_size < DATA_AT:
                os.ftruncate(fd, DATA_AT)
            os.pwrite(fd, MAGIC + token, 0)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, OWNER_AT)
            self._address = token.hex(), os.getpid(), fd
        return self._address

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
        for token, door in [*_doors.items(), *_found.items()]:
            # Others', that fork has copied: they would keep their memory.
            if token != self.own.token and token != self.client.token:
                os.close(door.fd)
        _doors.clear()
        _found.clear()
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
    """Give back memory that this process's arena has not used for a while, and let go of arenas whose owners have ended.

    Returns:
        when to come again, in monotonic seconds; None if there is nothing to come for.
    """
    global _tidy_due
    arena = None if _arena is None else _arena()
    due = None if arena is None else arena.trim_at(monotonic())
    if _found:
        now = monotonic()
        if now >= _tidy_due:
            _tidy_due = now + TIDY
            forget(all=False)
        due = _tidy_due if due is None else min(due, _tidy_due)
    return due


class Lane:
    """The way of large data to one receiver that can reach this process's arena, and all that this one can.

    What nobody here keeps until it has arrived is held by its lane: see ``Arena.ticket``.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        #: tickets, and what they hold, oldest first
        self.waiting: deque[tuple[int, Any]] = deque()

    def close(self, patience: float = 0.0) -> None:
        """Nothing goes this way any more.

        Args:
            patience: seconds that the receiver may take to look at what is on its way; 0: there is none.
        """
        found = _alive(_arena)
        if found is not None and self.waiting:
            found.close_lane(self, patience)


def collect() -> bool:
    """Let go of what has arrived where it was sent to. Whether there is more on its way."""
    found = None if _arena is None else _arena()
    return found is not None and found.collect()


def address_of(home: Home | None) -> Address | None:
    """Where others find it; None if there is nothing to be found."""
    try:
        return None if home is None else home.address
    except OSError:
        return None


def settle() -> Address | None:
    """In an engine or a hub that was given nothing: have a home as long as it lives. Its address, None where there is none."""
    global _engine_home
    _engine_home = home()
    return address_of(_engine_home)


def _own_doors() -> list[Door]:
    home, arena = _alive(_home), _alive(_arena)
    return [each.door for each in (home, arena) if each is not None]


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
