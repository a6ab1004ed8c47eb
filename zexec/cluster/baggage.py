"""What goes along with a client's functions to engines elsewhere: where its modules are, and its initializer.

An engine of a cluster serves many clients, so neither can be the engine's own. Both travel with each function, and take effect
when an engine loads the first function of that client: paths on which the client finds its modules are added to the engine's,
behind its own, as far as they exist there; the initializer runs, once per engine and client.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from zexec.messages import Function
from zexec.wire.pickling import MainModule, dumps, loads

#: in an engine: what has become of each client's initializer, by its key: None, or the exception
_initialized: dict[bytes, BaseException | None] = {}


class Baggage:
    """Packs a client's functions.

    Args:
        initializer, initargs: run in each engine before the first task of this client.
        main: what the engines know of ``__main__``.
    """

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...], main: MainModule) -> None:
        self._initializer = None if initializer is None else dumps((initializer, initargs), main)
        self._paths = [os.path.abspath(path) for path in sys.path if isinstance(path, str) and _is_users(path)]
        #: where there is an initializer, one of a kind: it runs for each client that has it
        self._key = os.urandom(8) if initializer is not None else blake2b("\0".join(self._paths).encode()).digest()[:8]

    def pack(self, function: Function) -> Function:
        """A function with what goes along."""
        if not self._paths and self._initializer is None:
            return function
        payload = dumps(_Packed(self._key, self._paths, self._initializer, function.payload))
        digest = blake2b(self._key + function.digest, digest_size=16).digest()
        return Function(digest, payload, function.name, function.shared, function.spread)


def _is_users(path: str) -> bool:
    """Whether an entry of ``sys.path`` is where a user's own modules are, rather than an installation's."""
    return not any(
        os.path.abspath(path or ".").startswith(base) for base in {sys.prefix, sys.base_prefix, sys.exec_prefix}
    )


class _Packed:
    """Pickles as a call of ``_unpack``."""

    def __init__(self, *args: Any) -> None:
        self._args = args

    def __reduce__(self) -> Any:
        return _unpack, self._args


def _unpack(key: bytes, paths: list[str], initializer: Any, payload: Any) -> Any:
    """In an engine: the function, once all is as its client wants it."""
    for path in paths:
        if path not in sys.path and os.path.exists(path):
            sys.path.append(path)
    if initializer is not None:
        if key not in _initialized:
            _initialized[key] = _initialize(initializer)
        error = _initialized[key]
        if error is not None:
            raise error
    return loads(payload)


def _initialize(data: Any) -> BaseException | None:
    from zexec.errors import InitializerError

    try:
        initializer, initargs = loads(data)
        initializer(*initargs)
    except BaseException as e:
        error = InitializerError(f"the initializer raised {type(e).__name__}: {e}")
        error.__cause__ = e
        return error
    return None
