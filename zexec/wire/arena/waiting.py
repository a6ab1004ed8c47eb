"""Waiting until readers of an arena let go of something: by a futex in the header, which the system wakes us from.

Two words: one that readers change when they let go, and one by which they see that somebody waits. Who waits notes the first,
looks whether there is still anything to wait for, and sleeps unless the word has changed meanwhile; readers let go before
they look whether anybody waits. So nobody sleeps through what he waits for; but a reader that is killed wakes nobody, therefore
nobody sleeps for long.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from time import sleep
from typing import Any

from zexec.wire.arena.memory import RELEASES

#: Seconds after which to look whether a reader has died.
LOOK = 0.25
#: Seconds between two looks where there is no futex.
PAUSE = 0.005

_WAIT, _WAKE = 0, 1
_ALL = 0x7FFFFFFF
#: the system call's number
_NUMBER = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221, "s390x": 238}.get(
    platform.machine()
)
_libc = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _futex(address: int, what: int, value: int, time: Any = None) -> None:
    _libc.syscall(
        ctypes.c_long(_NUMBER or 0),
        ctypes.c_void_p(address),
        ctypes.c_int(what),
        ctypes.c_uint32(value),
        time,
        ctypes.c_void_p(None),
        ctypes.c_uint32(0),
    )


class Releases:
    """The two words of an arena's header.

    Args:
        words: they: what changes, whether somebody waits.
        address: where they are.
    """

    __slots__ = ("_address", "_lock", "_waiting", "_words")

    def __init__(self, words: memoryview, address: int) -> None:
        self._words = words
        self._address = address
        self._lock = threading.Lock()
        self._waiting = 0

    def tell(self) -> None:
        """As a reader that has just let go of something. Under the lock."""
        if self._words[1]:
            self._words[0] = (self._words[0] + 1) & 0xFFFFFFFF
            if _NUMBER is not None:
                _futex(self._address, _WAKE, _ALL)

    def __enter__(self) -> Releases:
        """As the owner, in any thread: have readers tell."""
        with self._lock:
            self._waiting += 1
            self._words[1] = 1
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._words[1] = 0

    @property
    def count(self) -> int:
        """To be asked for before a look whether there is anything to wait for."""
        # What this process itself has let go of may have to be seen to yet.
        RELEASES.drain()
        count: int = self._words[0]
        return count

    def wait(self, count: int, seconds: float) -> None:
        """Until readers have let go of something since ``count`` was asked for; for so long at most, or less."""
        if _NUMBER is None:
            sleep(min(seconds, PAUSE))
            return
        seconds = min(seconds, LOOK)
        whole = int(seconds)
        _futex(self._address, _WAIT, count, ctypes.byref(_Time(whole, int((seconds - whole) * 1e9))))
