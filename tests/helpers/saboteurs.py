"""Functions and objects that do harm, by the name of what they do and when."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

EXIT_CODE = 41


# -- ways to go ------------------------------------------------------------------------------------------------------


def leave(*args: Any) -> None:
    """Gone without a word."""
    os._exit(EXIT_CODE)


def kill(*args: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def crash(*args: Any) -> None:
    """A segmentation fault, unreported: faulthandler is off, and so is the core file."""
    import faulthandler
    import resource

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def stop(*args: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


DEATHS = {"leave": leave, "kill": kill, "crash": crash}
#: what the exception says of each
WORDS = {"leave": f"exit code {EXIT_CODE}", "kill": "SIGKILL", "crash": "SIGSEGV"}


def act(how: str) -> None:
    DEATHS[how]()


def act_once(how: str, path: str) -> str:
    """Die at the first call, live at the second."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    return DEATHS[how]() or "not reached"


def log_and_leave(path: str) -> None:
    with open(path, "a") as f:
        f.write(f"{os.getpid()}\n")
    leave()


def act_if(how: str, when: bool, value: Any) -> Any:
    if when:
        act(how)
    return value


def act_if_3(args: tuple[str, bool, Any]) -> Any:
    return act_if(*args)


def log_and_act_if(path: str, how: str, when: bool, value: Any) -> Any:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{value}\n".encode())
    os.close(fd)
    return act_if(how, when, value)


# -- ways to spoil the process one runs in ---------------------------------------------------------------------------


def close_all_descriptors() -> str:
    os.closerange(3, 1000)
    return "done"


def change_directory() -> str:
    os.chdir("/")
    return "done"


def ignore_signals() -> str:
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    return "done"


def start_a_thread_that_stays() -> str:
    import threading

    threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
    return "done"


def fork_a_child() -> str:
    """Badly: the child comes back into the engine's code unless it leaves."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "done"


def close_standard_streams() -> str:
    sys.stdout.close()
    sys.stderr.close()
    os.close(0)
    return "done"


def set_a_nasty_recursion_limit() -> str:
    for limit in range(40, 1000, 5):
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:
            continue  # less than what is in use
        break
    return "done"


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


# -- ways to leave a task --------------------------------------------------------------------------------------------


class Odd(BaseException):
    """No Exception, and not one of Python's own."""


def system_exit(*args: Any) -> None:
    sys.exit(3)


def keyboard_interrupt(*args: Any) -> None:
    raise KeyboardInterrupt("from a task")


def generator_exit(*args: Any) -> None:
    raise GeneratorExit("from a task")


def odd_exception(*args: Any) -> None:
    raise Odd("from a task")


def stop_iteration(*args: Any) -> None:
    raise StopIteration("from a task")


# -- at pickling and unpickling --------------------------------------------------------------------------------------


class ErrorAtPickle:
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickling of this")

    def __repr__(self) -> str:
        return "ErrorAtPickle()"


class ExitAtPickle:
    def __reduce__(self) -> Any:
        os._exit(EXIT_CODE)


def _raise(message: str) -> None:
    raise RuntimeError(message)


class ErrorAtUnpickle:
    def __reduce__(self) -> Any:
        return _raise, ("no unpickling of this",)


class ExitAtUnpickle:
    def __reduce__(self) -> Any:
        return os._exit, (EXIT_CODE,)


class KillAtUnpickle:
    def __reduce__(self) -> Any:
        return kill, ()


class DoubleAtUnpickle:
    """Pickles as what an unimportable name gives: the other side has no such module."""

    def __reduce__(self) -> Any:
        return __import__, ("no_such_module_anywhere",)


class NoRepr:
    """Can be neither pickled nor shown."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickling of this")

    def __repr__(self) -> str:
        raise RuntimeError("nor a repr")


def make(cls: type) -> Any:
    """A result that does harm on its way."""
    return cls()


def take(x: Any) -> str:
    return "taken"


# -- exceptions that do harm -----------------------------------------------------------------------------------------


class NeedsTwo(Exception):
    """Cannot be rebuilt from its ``args``: the classic."""

    def __init__(self, a: Any, b: Any) -> None:
        super().__init__("only one")
        self.b = b


class CarriesLock(Exception):
    """Cannot be pickled."""


def raise_needs_two(*args: Any) -> None:
    raise NeedsTwo(1, 2)


def raise_carries_lock(*args: Any) -> None:
    import threading

    raise CarriesLock("with a lock", threading.Lock())


def raise_without_args(*args: Any) -> None:
    class Local(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no str")

    raise Local(NoRepr())


class Contrary(Exception):
    """Has no attributes, takes none, and cannot be shown. (Its pickle is its class's name and ``args``.)"""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")

    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError("no attributes")

    def __str__(self) -> str:
        raise RuntimeError("not to be shown")

    __repr__ = __str__

    def with_traceback(self, tb: Any) -> Any:
        raise RuntimeError("no traceback")

    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")

    def __reduce__(self) -> Any:
        return Contrary, self.args


class MoreContrary(Contrary):
    """It cannot be pickled either, and whoever shows it is to leave."""

    def __str__(self) -> str:
        raise SystemExit("not to be shown")

    __repr__ = __str__

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("not to be pickled")


class ContraryAtPickle:
    def __reduce__(self) -> Any:
        raise MoreContrary


def raise_contrary(*args: Any) -> None:
    raise Contrary


def raise_more_contrary(*args: Any) -> None:
    raise MoreContrary


# -- initializers ----------------------------------------------------------------------------------------------------


def failing_initializer(path: str) -> None:
    with open(path, "a") as f:
        f.write(f"{os.getpid()}\n")
    raise ValueError("the initializer failed")


def dying_initializer(path: str, how: str) -> None:
    with open(path, "a") as f:
        f.write(f"{os.getpid()}\n")
    DEATHS[how]()


# -- what costs an engine, now or later ------------------------------------------------------------------------------


def close_all_and_go_on(path: str, release: str) -> str:
    """Nothing can tell the hub any more that this process lives, or that it ends."""
    from tests.helpers import tasks

    tasks.append(path, str(os.getpid()))
    os.closerange(3, 1000)
    tasks.wait_for(release)
    return "done"


def leave_a_child_behind(path: str, release: str) -> None:
    """The child has every descriptor that its parent had, and outlives it."""
    from tests.helpers import tasks

    if os.fork() == 0:
        tasks.append(path, str(os.getpid()))
        try:
            tasks.wait_for(release)
        finally:
            os._exit(0)
    tasks.wait_for(path)
    os.kill(os.getpid(), signal.SIGKILL)


def write_everywhere(data: bytes) -> str:
    """Into every descriptor that belongs to the engine: its connections, and the memory that it shares with the hub."""
    for fd in range(3, 100):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith(("socket:", "/memfd:zexec")):
                os.write(fd, data)
        except OSError:
            pass
    return "done"


class RaisesWhenCollected:
    def __del__(self) -> None:
        raise RuntimeError("from __del__")


def keep_the_interpreter(seconds: float) -> str:
    """A C call that lets nobody else in, and that no signal ends before its time."""
    from time import monotonic

    begin = monotonic()
    sum(range(1_000_000))
    pace = (monotonic() - begin) / 1_000_000
    sum(range(int(seconds / pace)))
    return "done"


def chatter(size: int) -> str:
    sys.stdout.write("x" * size)
    os.write(1, b"y" * size)
    return "done"


def stop_all_output() -> str:
    """A standard output that takes nothing and blocks for ever is not to be had; one that is full is."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # whatever captures output here
    sys.stdout.write("this will not be written")
    return "done"


def print_and_flush(x: object) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    print("this will not be written", file=open(1, "w", closefd=False), flush=True)  # noqa: SIM115


def threads_that_outlive(daemon: bool, path: str) -> str:
    import threading

    from tests.helpers import tasks

    threading.Thread(target=tasks.wait_for, args=(path,), daemon=daemon).start()
    return "done"


def deepen(n: int) -> list[object]:
    """A list in a list in a list ..."""
    made: list[object] = []
    for _ in range(n):
        made = [made]
    return made


def threads_that_outlive_2(how: tuple[bool, str]) -> str:
    return threads_that_outlive(*how)


def ignore_signals_1(x: object) -> str:
    return ignore_signals()


def signal_myself(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def need_for_a_moment(size: int) -> int:
    return len(bytearray(b"x") * size)


_leaked: list[bytearray] = []


def leak(size: int, path: str = "") -> tuple[int, int]:
    """Keep so many bytes for ever: the pid, and how many calls have done so before in this process."""
    if path:
        from tests.helpers import tasks

        tasks.append(path, str(os.getpid()))
    _leaked.append(bytearray(b"x") * size)
    return os.getpid(), len(_leaked) - 1


def say_and_keep_the_interpreter(path: str, seconds: float) -> str:
    from tests.helpers import tasks

    tasks.touch(path)
    return keep_the_interpreter(seconds)


def take_the_signal_for_stacks() -> str:
    import faulthandler

    from zexec.engine.ledger import STACK_SIGNAL

    faulthandler.unregister(STACK_SIGNAL)
    return "done"


def die_the_first_times(path: str, times: int) -> None:
    """An initializer that kills its engine, and then does not."""
    from tests.helpers import tasks

    tasks.append(path, str(os.getpid()))
    if len(tasks.lines(path)) <= times:
        kill()


def die_after_the_first(path: str, times: int) -> None:
    """The first engine comes up, so many after it do not."""
    from tests.helpers import tasks

    tasks.append(path, str(os.getpid()))
    if 1 < len(tasks.lines(path)) <= times + 1:
        kill()


def hold_and_make_a_long_list(started: str, release: str, size: int) -> list[int]:
    from tests.helpers import tasks

    tasks.hold(started, release)
    return list(range(size))


def end_own_pool_from_a_thread(x: object) -> str:
    import threading

    import zexec

    with zexec.Pool(1) as pool:
        assert pool.apply(abs, (-3,)) == 3
        thread = threading.Thread(target=pool.terminate)
        thread.start()
    thread.join()
    pool.join()
    return "done"
