"""Well-behaved functions to run on engines. In a module, so that every start method finds them by name."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

#: Seconds after which a task that waits for something gives up, so that a failing test leaves nothing for long.
PATIENCE = 30.0


def double(x: Any) -> Any:
    return x + x


def echo(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs else args


def echo_one(x: Any) -> Any:
    return x


def add(x: Any, y: Any = 100) -> Any:
    return x + y


def nothing(*args: Any) -> None:
    return None


def pid(*args: Any) -> int:
    return os.getpid()


def touch(path: str) -> None:
    """Tell everybody who waits for this file."""
    with open(path, "a"):
        pass


def append(path: str, text: str) -> None:
    """One line; lines of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def append_at_the_second_try(log: str, i: int) -> None:
    """Every tenth fails at first."""
    if i % 10 == 0 and f"failed {i}" not in lines(log):
        append(log, f"failed {i}")
        raise OSError(i)
    append(log, str(i))


def append_or_die(log: str, i: int) -> None:
    """The fiftieth ends its engine, the first time."""
    append(log, str(i))
    if i == 50 and lines(log).count("50") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def lines(path: str) -> list[str]:
    try:
        with open(path) as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []


def wait_for(path: str) -> bool:
    """Wait until a file exists."""
    return until(lambda: os.path.exists(path))


def until(condition: Any, patience: float = PATIENCE) -> bool:
    """Wait until a condition holds that nobody sends an event for."""
    give_up = monotonic() + patience
    while not condition():
        if monotonic() > give_up:
            raise AssertionError("waited in vain")
        sleep(0.002)
    return True


def hold(started: str, release: str, value: Any = None) -> Any:
    """Say that it runs, run until told to end."""
    append(started, str(os.getpid()))
    wait_for(release)
    return value


def log_and_return(path: str, x: Any) -> Any:
    append(path, str(x))
    return x


def hold_or_return(what: tuple[str | None, Any]) -> Any:
    """Return the second, when the file named by the first exists."""
    release, value = what
    if release is not None:
        wait_for(release)
    return value


def first_logs_others_wait(number: int, log: str, release: str) -> int:
    append(log, str(number))
    if number:
        wait_for(release)
    return number


def nap(seconds: float) -> float:
    """A task that takes a while without using the processor."""
    sleep(seconds)
    return seconds


def timed_nap(seconds: float) -> tuple[float, float, int]:
    """When it started and ended, and where."""
    start = monotonic()
    sleep(seconds)
    return start, monotonic(), os.getpid()


def take_one(x: Any) -> str:
    return "taken"


def raise_from() -> None:
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise KeyError("chained") from e


def length_and_ends(data: Any) -> tuple[int, bytes, bytes]:
    return len(data), bytes(data[:2]), bytes(data[-2:])


def make_bytes(size: int) -> bytes:
    return b"ab" + bytes(size - 4) + b"yz"


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def write_into(array: Any) -> float:
    array[0] = 1
    return float(array.sum())


def append_and_nap(path: str, value: Any, seconds: float) -> Any:
    """Note that it runs, and take so long."""
    append(path, str(value))
    sleep(seconds)
    return value


def nap_and_clean_up(path: str) -> str:
    try:
        sleep(60)
    finally:
        append(path, "cleaned up")
    return "slept"


def deaf() -> None:
    """Goes on whatever is raised in it."""
    give_up = monotonic() + PATIENCE
    while monotonic() < give_up:
        try:
            sleep(PATIENCE)
        except BaseException:
            pass


def slow_once(path: str) -> str:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    sleep(PATIENCE)
    return "first"


def fail_times(path: str, times: int) -> int:
    """Fail so often, then say at which attempt it worked."""
    append(path, "attempt")
    attempt = len(lines(path))
    if attempt <= times:
        raise ValueError(f"attempt {attempt}")
    return attempt


def busy_loop() -> None:
    while True:
        pass


def fail(message: str = "as told") -> None:
    raise ValueError(message)


def fail_if_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def reciprocal(x: float) -> float:
    return 1 / x


def identity() -> tuple[tuple[int, ...], str, bool]:
    me = multiprocessing.current_process()
    return me._identity, me.name, me.daemon  # type: ignore[attr-defined]


def meet(path: str, number: int) -> tuple[tuple[int, ...], str, bool]:
    """Wait until so many are here, so that each is on an engine of its own."""
    append(path, str(os.getpid()))
    until(lambda: len(lines(path)) >= number)
    return identity()


def parent_pid() -> int | None:
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None else None


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def counting(n: int, log: list[int]) -> Iterator[int]:
    """0 .. n - 1, with a note of each as it is drawn."""
    for i in range(n):
        log.append(i)
        yield i


def broken_after(n: int, error: type[BaseException] = ZeroDivisionError) -> Iterator[int]:
    """An input that fails."""
    yield from range(n)
    raise error("the input failed")


class LockedCounter:
    """0 .. n - 1, for several threads."""

    def __init__(self, n: int) -> None:
        self._items = iter(range(n))
        self._lock = threading.Lock()

    def __iter__(self) -> LockedCounter:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._items)


def say(text: str) -> None:
    print(text)


def say_both(text: str) -> None:
    print("out", text)
    print("err", text, file=sys.stderr)


def raise_it(error: type[BaseException], *args: Any) -> None:
    raise error(*args)


def chunk_number(item: int) -> tuple[int, int]:
    """Names the chunk an item came in: the frame that maps it is the same for all of one chunk, and no other."""
    frame = sys._getframe(1)
    if _chunk[0] is not frame:
        _chunk[0] = frame
        _chunk[1] += 1
    return os.getpid(), _chunk[1]


_chunk: list[Any] = [None, 0]


class Adder:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        return x + self.n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and other.n == self.n

    def __hash__(self) -> int:
        return self.n

    plus = __call__

    @classmethod
    def of(cls, n: int) -> Adder:
        return cls(n)


class Squares:
    """A sequence by the old protocol only, of a length that it does not know."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __getitem__(self, i: int) -> int:
        if i >= self._n:
            raise IndexError(i)
        return i * i


class Doubles(list[Any]):
    """A list that gives other items to whoever iterates than it has."""

    def __iter__(self) -> Iterator[Any]:
        return (2 * item for item in super().__iter__())


# -- with an initializer ---------------------------------------------------------------------------------------------

state: Any = None


def remember(value: Any) -> None:
    global state
    state = value


def recall(*args: Any) -> Any:
    return state


def use_lock(path: str) -> None:
    """Two lines that belong together, under the lock that the initializer was given."""
    with state:
        append(path, "in")
        append(path, "out")


def put(value: Any) -> None:
    state.put(value)


def send(value: Any) -> None:
    state.send(value)


def say_into(connection: Any, value: Any) -> None:
    connection.send(value)


def send_into(socket: Any, value: bytes) -> None:
    socket.sendall(value)


def first_waits(first: str, release: str) -> None:
    """As initializer: whoever comes first waits."""
    try:
        os.close(os.open(first, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    wait_for(release)


def add_to_value(x: int) -> None:
    with state.get_lock():
        state.value += x


class SlowToArrive:
    """Says so when it is unpickled, and takes until it is told to go on."""

    def __init__(self, started: str, release: str) -> None:
        self.where = started, release

    def __setstate__(self, state: dict[str, Any]) -> None:
        started, release = state["where"]
        append(started, str(os.getpid()))
        wait_for(release)


def nap_long(what: Any) -> None:
    sleep(60)
