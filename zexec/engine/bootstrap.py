"""Where an engine process begins, under every start method."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

from zexec.engine.engine import Engine, EngineSpec
from zexec.engine.imports import forget_unfinished


class ByValue:
    """A callable that travels by value, for an initializer that cannot be imported on the other side."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self._f = f

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        return _load, (cloudpickle.dumps(self._f),)

    def __call__(self, *args: Any) -> Any:
        return self._f(*args)


def _load(data: bytes) -> Any:
    return ByValue(pickle.loads(data))


def serve(spec: EngineSpec, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
    """Run an engine in this process until it is told to leave."""
    forget_unfinished()
    spec.ends.arrived()
    if spec.rooms is not None:
        spec.rooms.move_in()
    if spec.serializers is not None:
        pickle.loads(spec.serializers)  # which registers them
    engine = Engine(spec)

    def initialize() -> None:
        if initializer is not None:
            try:
                initializer(*initargs)
            except BaseException:
                # As the stdlib's executor does; its users look for this line in the log of 'concurrent.futures'.
                import logging

                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
                raise

    try:
        engine.run(initialize)
    except Exception:
        if not engine.has_told_why:
            raise  # a bug: with its traceback on stderr
        # That would only say it again.
        raise SystemExit(1) from None
    finally:
        # What multiprocessing does next is to wait for child processes. Those of an executor that a task has left open leave
        # when threads are shut down, which multiprocessing does after that: so do it here first, as at an interpreter's end.
        threading._shutdown()  # type: ignore[attr-defined]
