"""The rows on large data. As in rows.py: one function per row, run in a fresh process with one peer."""

from __future__ import annotations

import time

from compat.benchmark import tasks

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 7 ms of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from compat.benchmark.peers import Peer
    from compat.benchmark.rows import Figures, Observe, Settings

MB, GB = 1 << 20, 1 << 30
LARGE = 100 * MB
SCATTERED = GB
ROUNDS = 7


def array_in(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """An array of 100 MB as an argument; and, in the same process, what copying it takes."""
    import numpy as np

    _open(peer)
    array = np.ones(LARGE // 8)
    seconds = _median_of(settings, lambda: peer.call(tasks.last, array) == 1)
    copy = np.zeros_like(array)
    memcpy = _median_of(settings, lambda: np.copyto(copy, array) is None)
    peer.close()
    return {"array_in_gib_s": LARGE / GB / seconds, "memcpy_gib_s": LARGE / GB / memcpy}


def array_out(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """An array of 100 MB, which the engine has, as a result."""
    _open(peer)
    seconds = _median_of(settings, lambda: peer.call(tasks.ready_array, LARGE // 8)[-1] == 1)
    peer.close()
    return {"array_out_gib_s": LARGE / GB / seconds}


def echo(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """1 MB there and back."""
    import numpy as np

    _open(peer)
    array = np.ones(MB // 8)
    seconds = _median_of(settings, lambda: peer.call(tasks.noop, array)[-1] == 1, rounds=100)
    peer.close()
    return {"echo_gib_s": 2 * MB / GB / seconds}


def broadcast(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """100 MB to every engine, by the best way that the peer has."""
    import numpy as np

    _open(peer)
    array = np.ones(LARGE // 8)
    seconds = _median_of(settings, lambda: set(peer.broadcast(tasks.last, array)) == {1})
    figures = {"broadcast_gib_s": settings.engines * LARGE / GB / seconds}
    if peer.is_zexec:
        figures["broadcast_copied"] = _copied(lambda: peer.broadcast(tasks.last, array)) / LARGE
    peer.close()
    return figures


def _copied(run: Callable[[], Any]) -> int:
    """Bytes that zexec copies in this process meanwhile; its engines copy none that they are sent by segments."""
    from zexec.wire import bundles

    copy_into, sizes = bundles.copy_into, []

    def counting(target: memoryview, source: memoryview) -> None:
        sizes.append(source.nbytes)
        copy_into(target, source)

    bundles.copy_into = counting
    try:
        run()
    finally:
        bundles.copy_into = copy_into
    return sum(sizes)


def scatter(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """1 GB cut into parts, one to each engine, and put together again."""
    import numpy as np

    _open(peer)
    array = np.ones(SCATTERED // 8)
    seconds = _median_of(settings, lambda: len(peer.scatter_gather(array)) == len(array), rounds=3)
    peer.close()
    return {"scatter_gather_gib_s": 2 * SCATTERED / GB / seconds}


def frame_echo(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """A pandas frame of 10 MB there and back."""
    import numpy as np
    import pandas

    _open(peer)
    frame = pandas.DataFrame({name: np.ones(10 * MB // 80) for name in "abcdefghij"})
    seconds = _median_of(settings, lambda: len(peer.call(tasks.noop, frame)) == len(frame), rounds=20)
    peer.close()
    return {"frame_echo_gib_s": 20 * MB / GB / seconds}


def shared_in(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """An array of zexec.empty as an argument: 100 MB."""
    import zexec

    _open(peer)
    array = zexec.empty(LARGE // 8)
    array[:] = 1
    seconds = _median_of(settings, lambda: peer.call(tasks.last, array) == 1, rounds=100)
    peer.close()
    return {"shared_in_us": seconds * 1e6}


ARRAY_ROWS = {
    "array_in": array_in,
    "array_out": array_out,
    "echo": echo,
    "broadcast": broadcast,
    "scatter": scatter,
    "frame_echo": frame_echo,
    "shared_in": shared_in,
}


def _open(peer: Peer) -> None:
    peer.open()
    peer.results([peer.submit(tasks.nap, 0.02) for _ in range(peer.engines * 2)])


def _median_of(settings: Settings, run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Seconds of one run, which says whether its result was right. The first two are to warm up."""
    times: list[float] = []
    end = time.perf_counter() + 2 * settings.seconds
    while len(times) < rounds + 2 and (time.perf_counter() < end or len(times) < 3):
        begin = time.perf_counter()
        right = run()
        times.append(time.perf_counter() - begin)
        if not right:
            raise RuntimeError("wrong results")
    times = sorted(times[2:])
    return times[len(times) // 2]
