"""joblib on zexec: ``import zexec.joblib``, then ``joblib.parallel_config(backend="zexec")`` (``pip install zexec[joblib]``).

Importing this module registers the backend; joblib has no other way in for a backend that is not its own. It is joblib's
loky backend in all that a caller sees, on a zexec Executor.

joblib cuts the work into batches (``AutoBatchingMixin``), hands each to ``submit`` and goes on in the future's callback. What
is decided here:

- **How engines start**: as joblib's loky starts its workers, by its multiprocessing context: a fresh interpreter that does
  not import the script. So scripts need no ``if __name__ == "__main__"``, limits for OpenMP and BLAS are in the environment
  before those are loaded, and no engine inherits an OpenMP that has lost its threads by a fork (it would hang).
- **How batches travel**: by value where they must (cloudpickle), since those engines know nothing of ``__main__``; large
  buffers apart from the rest.
- **How long engines live**: as long as the ``with Parallel(...)``, and then idle for the next call that wants the same,
  because it is not the start that takes long but the imports of what the tasks need.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import Pipe, current_process
from multiprocessing.util import Finalize
from typing import Any

import cloudpickle
from joblib import cpu_count, register_parallel_backend
from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.process import LokyProcess
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from zexec.executor import Executor
from zexec.result import AsyncResult

#: Seconds after which engines that nobody has asked for leave. As joblib's loky; not measured.
IDLE = 300.0


class ZexecBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What ``backend="zexec"`` stands for.

    Args:
        context: multiprocessing context that starts the engines, instead of joblib's. One that forks starts faster, and must
            not be used once this process has used OpenMP; ``inner_max_num_threads`` then has no effect.
        initializer, initargs: run in each engine before its first task; may also be given to Parallel.
        kwargs: what joblib gives every backend. Arrays are never put into files: ``max_nbytes``, ``mmap_mode`` and
            ``temp_folder`` have no effect.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._context = context
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._workers: Executor | None = None
        self._recipe: _Recipe

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many engines ``n_jobs`` means: -1 is one for each CPU, -2 one less, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs != 1 and current_process().daemon:
            warnings.warn("a daemonic process cannot have engines, setting n_jobs=1", stacklevel=3)
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        **_: Any,
    ) -> int:
        """Get engines for a Parallel; how many."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        if initializer is None:
            initializer, initargs = self._initializer, self._initargs
        env = self._prepare_worker_env(n_jobs)
        self._recipe = _Recipe(n_jobs, self._context, env, initializer, tuple(initargs))
        self._workers = _idle.take(self._recipe) or self._recipe.start()
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Run a batch on an engine; ``callback`` gets its future, in zexec's callback thread."""
        future: Future[Any]
        try:
            future = self._send(func)
        except Exception as error:
            # Never raise: most batches are submitted from a callback, where nobody would hear of it and all would wait.
            future = Future()
            future.set_exception(error)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # joblib's name for it until 1.4

    def _send(self, func: Callable[[], Any]) -> AsyncResult:
        if self._workers is None:
            raise RuntimeError("this Parallel has ended")
        buffers: list[pickle.PickleBuffer] = []
        try:
            data = cloudpickle.dumps(func, 5, buffer_callback=buffers.append)
        except Exception as error:
            raise pickle.PicklingError("Could not pickle the task to send to the engines.") from error
        return self._workers.submit(_run, data, *buffers)

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """A batch's values; raises what one of its calls raised."""
        return future.result()

    def terminate(self) -> None:
        """The Parallel needs its engines no more."""
        executor, self._workers = self._workers, None
        if executor is not None:
            _idle.keep(self._recipe, executor)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End whatever runs, by ending the engines."""
        executor, self._workers = self._workers, None
        if executor is not None:
            executor.kill_workers()
        if ensure_ready:
            self._workers = self._recipe.start()


def _run(data: bytes, *buffers: Any) -> Any:
    # That the engine imports this module for it is what registers the backend there, for calls inside of calls.
    return pickle.loads(data, buffers=buffers)()


def _initialize(initializer: bytes, *initargs: Any) -> None:
    pickle.loads(initializer)(*initargs)


@dataclass(frozen=True, eq=False)
class _Recipe:
    """How to make an executor."""

    n_jobs: int
    context: Any
    env: dict[str, str]
    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]

    def start(self) -> Executor:
        context = self.context or _FreshInterpreters(self.env)
        if self.initializer is None:
            return Executor(self.n_jobs, context)
        return Executor(self.n_jobs, context, _initialize, (cloudpickle.dumps(self.initializer), *self.initargs))

    def is_same(self, other: _Recipe) -> bool:
        """Whether an executor made by the one will do for the other. Of initargs we know too little to ask for equality."""
        return (
            (self.n_jobs, self.env) == (other.n_jobs, other.env)
            and self.context is other.context
            and self.initializer is other.initializer
            and len(self.initargs) == len(other.initargs)
            and all(mine is theirs for mine, theirs in zip(self.initargs, other.initargs, strict=True))
        )


class _Process(LokyProcess):  # type: ignore[misc]
    """A process of joblib's loky, with what the stdlib's have and zexec needs: to be killed, to know when its parent is gone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: readable in the child once ``_alive``, which only the parent has, is closed
        self._parent_gone, self._alive = Pipe(duplex=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_alive": None}

    def start(self) -> None:
        super().start()
        self._parent_gone.close()

    def kill(self) -> None:
        if self.exitcode is None and self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        code: int = super()._bootstrap(self._parent_gone.fileno())
        return code


class _FreshInterpreters:
    """joblib's loky context, with additions to the environment of what it starts."""

    def __init__(self, env: dict[str, str]) -> None:
        self._loky = get_context("loky")
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loky, name)

    def Process(self, *args: Any, **kwargs: Any) -> Any:
        return _Process(*args, env=self._env, **kwargs)


class _Idle:
    """At most one executor that waits for the next Parallel. Between ``take`` and ``keep`` it is one Parallel's alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[_Recipe, Executor] | None = None
        self._timer: threading.Timer | None = None
        self._exit: Finalize | None = None

    def take(self, recipe: _Recipe) -> Executor | None:
        """The one that waits, if it was made as this one would be, and is in order."""
        with self._lock:
            if self._waiting is None or not self._waiting[0].is_same(recipe) or self._waiting[1]._broken:
                return None
            return self._swap(None)

    def keep(self, recipe: _Recipe, executor: Executor) -> None:
        """Let this one wait, and end the one that has been waiting."""
        with self._lock:
            before = self._swap((recipe, executor))
        if before is not None:
            before.shutdown()

    def drop(self) -> None:
        """End the one that waits."""
        with self._lock:
            before = self._swap(None)
        if before is not None:
            before.shutdown()

    def _swap(self, new: tuple[_Recipe, Executor] | None) -> Executor | None:
        old, self._waiting = self._waiting, new
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if new is not None:
            if self._exit is None:
                # A child of multiprocessing, which every engine is, waits for its own children before it ends threads.
                self._exit = Finalize(None, self.drop, exitpriority=10)
            self._timer = threading.Timer(IDLE, self._expire, new)
            self._timer.daemon = True
            self._timer.start()
        return None if old is None else old[1]

    def _expire(self, recipe: _Recipe, executor: Executor) -> None:
        with self._lock:
            if self._waiting is None or self._waiting[1] is not executor:
                return  # taken a moment ago
            self._swap(None)
        executor.shutdown()


_idle = _Idle()


def _forget() -> None:
    """In a fork: those engines are the parent's."""
    global _idle
    _idle = _Idle()


os.register_at_fork(after_in_child=_forget)
register_parallel_backend("zexec", ZexecBackend)
