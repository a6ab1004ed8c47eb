"""Types that travel in a way of their own: what users register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zexec.wire import reducers


def register_serializer(
    kind: type,
    serialize: Callable[[Any], Any],
    deserialize: Callable[[Any], Any],
    *,
    subclasses: bool = False,
) -> None:
    """Teach zexec how objects of a type travel, between this process and its engines, in both directions.

    What ``serialize`` returns is pickled in place of the object: so arrays, large ``bytes`` and ``pickle.PickleBuffer``
    objects in it move without a copy. On the other side ``deserialize`` makes the object of it. Both are functions that the
    other side can import, or that can be sent by value.

    Engines know what was registered before they were started, and what has ever arrived there. (A class of your own need not be
    registered: a ``__reduce_ex__`` that returns ``pickle.PickleBuffer`` objects, as of pickle's protocol 5, does the same.)

    An addition of zexec's: the stdlib's pickles know ``copyreg``, which works as well, but for every pickle of the process.

    Args:
        kind: the type. A later registration replaces an earlier one.
        serialize: called with an object; what is to travel. Parts, in a list or a tuple, of any type that can be pickled.
        deserialize: called with that, as it arrived: buffers as memoryviews, which are writable for Pool and Executor, and
            read-only for views.
        subclasses: also for classes derived from it, and for those that ``issubclass`` says are: with a protocol that is
            ``typing.runtime_checkable``, for all that have its methods.

    Raises:
        TypeError: one of them is not what it should be.
    """
    if not isinstance(kind, type):
        raise TypeError(f"a serializer is for a type, not for {kind!r}")
    if not (callable(serialize) and callable(deserialize)):
        raise TypeError("serialize and deserialize must be callable")
    reducers.register(kind, serialize, deserialize, subclasses)
