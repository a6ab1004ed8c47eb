"""What threads sleep on: file descriptors, and a bell that any other thread may ring."""

from __future__ import annotations

import os
import select
import threading


class Bell:
    """Sleeps until a watched descriptor is ready or somebody rings."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._epoll = select.epoll()
        self._epoll.register(self._read, select.EPOLLIN)
        #: keeps a late ring away from a descriptor that is closed, and may be somebody else's by now; reentrant, because a
        #: collection inside may end a pool, and that rings
        self._lock = threading.RLock()
        self._closed = False

    def watch(self, fd: int) -> None:
        """Wake when this can be read."""
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Wake also when this watched descriptor can be written, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN)

    def wait(self, timeout: float | None) -> set[int]:
        """Sleep; which descriptors are ready."""
        ready = {fd for fd, _ in self._epoll.poll(timeout)}
        if self._read in ready:
            ready.discard(self._read)
            try:
                os.read(self._read, 4096)
            except BlockingIOError:
                pass
        return ready

    def ring(self) -> None:
        """Wake the sleeper. Any thread, any time, once or often."""
        with self._lock:
            if self._closed:
                return
            try:
                os.write(self._write, b"r")
            except BlockingIOError:
                pass  # the pipe is full of unheard rings: it will wake

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._epoll.close()
            os.close(self._read)
            os.close(self._write)
