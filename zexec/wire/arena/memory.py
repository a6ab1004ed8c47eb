"""Files without names, mappings of them, and which memory of this process is in one.

By ctypes rather than by ``mmap``: a ``mmap.mmap`` keeps a descriptor open for each mapping, so that a list of a few thousand
arrays would use up those that a process may have. And closing any of them would drop this process's locks on the file.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import sys
import threading
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

PAGE = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_FAILED = ctypes.c_void_p(-1).value
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_REMOVE = getattr(mmap, "MADV_REMOVE", 9)


class Releases:
    """What garbage collection lets go of, to be seen to by whoever may take the lock.

    A collection may begin anywhere, also in a thread that holds the lock: so it never waits for that. Who has held it
    calls ``drain`` after letting go; thus nothing stays in the queue for longer than somebody holds the lock.
    """

    def __init__(self) -> None:
        #: guards everything that this package shares between the threads of this process
        self.lock = threading.Lock()
        #: at the end of a program nothing is released any more: the system does it
        self.over = False
        self._queue: deque[tuple[Callable[..., None], Any]] = deque()

    def add(self, release: Callable[..., None], what: Any) -> None:
        """Have ``release(what)`` called under the lock: now, if it is free."""
        if not self.over:
            self._queue.append((release, what))
            self.drain()

    def drain(self) -> None:
        """See to what waits, if the lock is free."""
        while self._queue and self.lock.acquire(blocking=False):
            try:
                self.run()
            finally:
                self.lock.release()

    def run(self) -> None:
        """See to what waits. Under the lock."""
        while self._queue:
            release, what = self._queue.popleft()
            release(what)
            del what

    def end(self) -> None:
        self.over = True


RELEASES = Releases()
atexit.register(RELEASES.end)


# -- mappings --------------------------------------------------------------------------------------------------------


def map_file(fd: int, offset: int, size: int, shared: bool, writable: bool) -> int:
    """Map a part of a file; its address.

    Raises:
        OSError: too many mappings, or no address space.
    """
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE | _NORESERVE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    address = _libc.mmap(None, size, protection, flags, fd, offset)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address)


def unmap(address: int, size: int) -> None:
    _libc.munmap(address, size)


def punch(address: int, size: int) -> None:
    """Give the memory behind a shared mapping back to the system; its file has a hole there."""
    _libc.madvise(address, size, _REMOVE)


def view(address: int, size: int) -> memoryview:
    """Memory as a buffer. Good only as long as it is mapped."""
    return memoryview(_block_type(size).from_address(address)).cast("B")


#: types of ctypes arrays by size: making one takes 20 µs, and sizes come back
_types: dict[int, Any] = {}
_TYPES = 256


def _block_type(size: int) -> Any:
    kind = _types.get(size)
    if kind is None:
        if len(_types) >= _TYPES:
            _types.clear()
        kind = _types[size] = ctypes.c_ubyte * size
    return kind


# -- memory that is in a segment --------------------------------------------------------------------------------------


class Keeper(Protocol):
    """What keeps a segment from being used again: a Segment or a Lease."""

    #: somebody may write to it still: it is an array's memory
    live: bool

    @property
    def place(self) -> Place:
        """Where others find it."""

    def map(self, offset: int, size: int, writable: bool) -> memoryview:
        """A part of it, given by its place in the file, as a receiver maps it."""


#: where a segment is: token of its arena; a process and a descriptor that have the file; slot, generation
Place = tuple[bytes, int, int, int, int]


#: what a mapping is: the segment itself; the segment, read-only; what may have been written to by this process alone
OWN, READ_ONLY, PRIVATE = "own", "read-only", "private"


class Block(weakref.ref):  # type: ignore[type-arg]
    """Memory in a segment, for as long as anybody uses it. Refers to the object whose buffer it is."""

    __slots__ = ("address", "keeper", "kind", "offset", "size")

    address: int
    size: int
    kind: str
    #: where it begins in the keeper's file
    offset: int
    keeper: Keeper


#: the blocks that are alive, by address, and the addresses in order. No two share one: a mapping ends, and a segment is
#: used again, only when the block is out of here.
_blocks: dict[int, Block] = {}
_addresses: list[int] = []


def lend(address: int, size: int, kind: str, offset: int, keeper: Keeper) -> memoryview:
    """A buffer at an address that keeps ``keeper`` as long as anybody uses it; a mapping ends then.

    Views of views, arrays of it: whatever refers to the buffer keeps all of it.
    """
    owner = _block_type(size).from_address(address)
    block = Block(owner, _forget)
    block.address, block.size, block.kind, block.offset, block.keeper = address, size, kind, offset, keeper
    with RELEASES.lock:
        _blocks[address] = block
        insort(_addresses, address)
    RELEASES.drain()
    return memoryview(owner).cast("B")


def map_privately(fd: int, offset: int, size: int, writable: bool, keeper: Keeper) -> memoryview:
    """Map a part of a segment, as a buffer that keeps ``keeper``. What is written to it is seen by nobody else.

    Where there can be no further mapping, it is a copy.
    """
    skip = offset % PAGE
    whole = size + skip
    try:
        address = map_file(fd, offset - skip, whole, False, writable)
    except OSError:
        return _read(fd, offset, size)
    try:
        buffer = lend(address, whole, PRIVATE if writable else READ_ONLY, offset - skip, keeper)
    except BaseException:
        unmap(address, whole)
        raise
    return buffer[skip:] if writable else buffer[skip:].toreadonly()


def _read(fd: int, offset: int, size: int) -> memoryview:
    copy = memoryview(mmap.mmap(-1, size))
    done = 0
    while done < size:
        done += os.preadv(fd, [copy[done:]], offset + done)
    return copy


def _forget(block: Any, add: Callable[..., None] = RELEASES.add) -> None:
    add(_remove, block)


def _remove(block: Block) -> None:
    if _blocks.pop(block.address, None) is None:
        return
    del _addresses[bisect_right(_addresses, block.address) - 1]
    if block.kind is not OWN:
        unmap(block.address, block.size)
    # Another release, which has to wait until this one is done.
    del block.keeper


def find(address: int, size: int) -> Block | None:
    """The block that this memory is in, if it is in one."""
    with RELEASES.lock:
        at = bisect_right(_addresses, address) - 1
        if at < 0:
            return None
        block = _blocks[_addresses[at]]
    return block if address + size <= block.address + block.size else None


# -- what has been written to ------------------------------------------------------------------------------------------

#: What the system says of a page, in the highest byte of a number of 64 bits: it is in memory or in swap space; it is a file's.
_SOMEWHERE, _OF_FILE = 0b1100_0000, 0b0010_0000
#: what that byte is where there is no copy: nobody has looked at the page, or it is the file's
_NO_COPY = bytes(byte for byte in range(256) if not byte & _SOMEWHERE or byte & _OF_FILE)
_PAGEMAP = "/proc/self/pagemap"
#: whether the system says so at all; None before it was asked
_tells: bool | None = None


def is_untouched(address: int, size: int) -> bool:
    """Whether nobody has written to a part of a private mapping: none of its pages is a copy. When in doubt, no."""
    global _tells
    try:
        if _tells is None:
            # Memory that was just written to is no file's. Where that cannot be seen, nothing else can.
            written = bytearray(b"x") * PAGE
            _tells = _has_copies(ctypes.addressof(ctypes.c_char.from_buffer(written)), 1)
        return _tells and not _has_copies(address, size)
    except OSError:
        _tells = False
        return False


def _has_copies(address: int, size: int) -> bool:
    first = address // PAGE
    length = ((address + size - 1) // PAGE - first + 1) * 8
    # Opened each time: a descriptor that is kept would show the memory of the process that opened it, also after a fork.
    fd = os.open(_PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pages = os.pread(fd, length, first * 8)
    finally:
        os.close(fd)
    if len(pages) != length:
        raise OSError("the system does not tell of all pages")
    return bool(pages[7 if sys.byteorder == "little" else 0 :: 8].translate(None, _NO_COPY))


def blocks() -> int:
    """How many blocks are alive; for tests."""
    with RELEASES.lock:
        return len(_blocks)


class _Buffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]
_release_buffer.restype = None


def address_of(buffer: Any) -> int:
    """Where a contiguous buffer begins."""
    found = _Buffer()
    _get_buffer(buffer, found, 0)
    address = found.buf
    _release_buffer(found)
    return int(address or 0)


def _after_fork_in_child() -> None:
    RELEASES.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
