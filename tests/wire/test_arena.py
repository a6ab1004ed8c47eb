"""Segments of shared memory: who has them, when they are free again, and what the end of a process does.

Other processes are forks that obey commands: everything here is decided by them and by this process, none of it by time.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from zexec.wire import bundles
from zexec.wire.arena import doors, memory
from zexec.wire.arena.owner import GRAIN, Arena
from zexec.wire.arena.table import DATA_AT, SLOTS

SIZE = 3 * GRAIN


class Other:
    """A process that runs functions of this file, one by one, and keeps what they put into ``kept``."""

    pipes: list[Any] = []

    def __init__(self) -> None:
        ours, theirs = Pipe()
        self.pipes.append(ours)
        self.pid = os.fork()
        if self.pid == 0:
            for pipe in self.pipes:
                pipe.close()
            code = 1
            try:
                serve(theirs)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        self._pipe = ours

    def __call__(self, f: Callable[..., Any], *args: Any) -> Any:
        self._pipe.send((f.__name__, args))
        return self._pipe.recv()

    def end(self) -> None:
        self._pipe.close()
        _, status = os.waitpid(self.pid, 0)
        assert status == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._pipe.close()


kept: dict[str, Any] = {}


def serve(pipe: Any) -> None:
    try:
        while True:
            name, args = pipe.recv()
            pipe.send(globals()[name](*args))
    except EOFError:
        kept.clear()
        gc.collect()


def there(name: str, frames: list[bytes]) -> None:
    """Receive a bundle."""
    kept[name] = bundles.decode(frames, 0)


def opened(name: str, under: str) -> bytes:
    """Open a bundle, keep what was in it, and say how it begins."""
    kept[under] = kept[name].load()
    return bytes(memoryview(kept[under])[:5])


def sliced(name: str, under: str) -> None:
    kept[under] = memoryview(kept[name])[10:20][2:4]


def write(name: str, data: bytes) -> None:
    memoryview(kept[name])[: len(data)] = data


def read(name: str) -> bytes:
    return bytes(memoryview(kept[name])[:5])


def drop(*names: str) -> None:
    for name in names:
        del kept[name]


def send_back(name: str) -> list[bytes]:
    """What is kept, as a bundle, handed over as a result is."""
    doors._engine_home = doors.home()
    bundle = pack(kept[name])
    return [bytes(frame) for frame in bundle.encode(lane, True)]


lane = doors.Lane()


def forget_bundle() -> int:
    return doors.arena().on_the_way  # type: ignore[union-attr]


def counted() -> int:
    return sum(sum(memoryview(attached._row)[1:]) for attached in doors._attached.values())


def pack(buffer: Any) -> bundles.Bundle:
    """A bundle of one buffer."""
    return bundles.build(
        [pickle.dumps(pickle.PickleBuffer(buffer), 5, buffer_callback=lambda b: False)], 0, [memoryview(buffer)]
    )


def frames_of(bundle: bundles.Bundle, refer: bool = True) -> list[bytes]:
    return [bytes(frame) for frame in bundle.encode(doors.Lane() if refer else None, False)]


@pytest.fixture
def arena(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    monkeypatch.delenv("ZEXEC_SHM_BYTES", raising=False)
    home = doors.home()
    assert home is not None
    home.arena.trim(0)
    yield home.arena
    gc.collect()
    home.arena.trim(0)
    assert memory.blocks() == 0
    assert home.arena.taken == 0
    doors.forget()
    assert doors._found == doors._attached == {}


@pytest.fixture
def others(arena: Arena) -> Iterator[Callable[[], Other]]:
    made: list[Other] = []

    def make() -> Other:
        made.append(Other())
        return made[-1]

    yield make
    for other in made:
        if not other._pipe.closed:
            other.end()


def test_a_bundle_goes_over_by_reference(arena: Arena, others: Callable[[], Other]) -> None:
    other = others()
    bundle = pack(b"hello" * SIZE)
    frames = frames_of(bundle)
    assert sum(map(len, frames)) < 1000
    other(there, "bundle", frames)
    assert other(opened, "bundle", "data") == b"hello"


def test_or_by_value(arena: Arena, others: Callable[[], Other]) -> None:
    other = others()
    frames = frames_of(pack(bytearray(b"hello" * SIZE)), refer=False)
    assert {len(frame) % 64 for frame in frames} == {0}
    other(there, "bundle", frames)
    assert other(opened, "bundle", "data") == b"hello"
    other(write, "data", b"HELLO")
    assert other(read, "data") == b"HELLO"


def test_a_segment_is_free_when_nobody_has_it(arena: Arena, others: Callable[[], Other]) -> None:
    one, two = others(), others()
    bundle = pack(bytearray(SIZE))
    taken = arena.taken
    for other in (one, two):
        other(there, "bundle", frames_of(bundle))
    del bundle
    assert arena.free == 0
    one(drop, "bundle")
    assert arena.free == 0
    two(opened, "bundle", "data")
    two(drop, "bundle")
    assert arena.free == 0
    two(sliced, "data", "slice")
    two(drop, "data")
    assert arena.free == 0  # for the sake of a slice of a slice
    two(drop, "slice")
    assert arena.free == taken == arena.taken


def test_it_is_used_again(arena: Arena, others: Callable[[], Other]) -> None:
    other = others()
    for i in range(50):
        bundle = pack(b"%05d" % i * SIZE)
        other(there, "bundle", frames_of(bundle))
        assert other(opened, "bundle", "data") == b"%05d" % i
        del bundle
        other(drop, "bundle", "data")
    assert arena.taken == arena.peak <= 8 * GRAIN * 2


def test_who_writes_writes_for_itself(arena: Arena, others: Callable[[], Other]) -> None:
    one, two = others(), others()
    data = bytearray(b"hello" * SIZE)
    bundle = pack(data)
    for other in (one, two):
        other(there, "bundle", frames_of(bundle))
        other(opened, "bundle", "data")
    one(write, "data", b"ONE..")
    assert two(read, "data") == b"hello"
    two(opened, "bundle", "again")
    two(write, "data", b"TWO..")
    assert (one(read, "data"), two(read, "data"), two(read, "again")) == (b"ONE..", b"TWO..", b"hello")
    assert bytes(memoryview(bundle.load())[:5]) == b"hello"


@pytest.mark.parametrize("end", ["kill", "end"])
def test_a_process_that_ends_has_nothing(arena: Arena, others: Callable[[], Other], end: str) -> None:
    other = others()
    bundle = pack(bytearray(SIZE))
    other(there, "bundle", frames_of(bundle))
    other(opened, "bundle", "data")
    del bundle
    assert arena.free == 0
    getattr(other, end)()
    assert arena.free == arena.taken > 0


def test_the_next_in_its_row_begins_with_nothing(arena: Arena, others: Callable[[], Other]) -> None:
    bundle = pack(bytearray(SIZE))
    frames = frames_of(bundle)
    first = others()
    first(there, "a", frames)
    first(there, "b", frames)
    assert first(counted) == 2
    first.kill()
    second = others()
    second(there, "a", frames)
    assert second(counted) == 1
    del bundle
    assert arena.free == 0
    second(drop, "a")
    assert arena.free == arena.taken


def test_what_comes_too_late_is_not_taken_for_another(arena: Arena, others: Callable[[], Other]) -> None:
    other = others()
    late = frames_of(pack(b"early" * SIZE))  # and the bundle is gone
    arena.free  # which is noticed here
    bundle = pack(b"other" * SIZE)
    other(there, "late", late)
    assert not other(is_there, "late")
    other(there, "bundle", frames_of(bundle))
    assert other(is_there, "bundle")


def is_there(name: str) -> bool:
    try:
        kept[name].load()
    except bundles.SegmentLostError:
        return False
    return True


def test_what_a_killed_process_sent_is_there_if_its_file_is(arena: Arena, others: Callable[[], Other]) -> None:
    """As with an engine, whose file the client has made."""
    other = others()
    other(there, "bundle", frames_of(pack_kept(bytearray(b"hello" * SIZE))))
    other(opened, "bundle", "data")
    frames = other(send_back, "data")
    back = bundles.decode(frames, 0)
    other.kill()
    assert bytes(memoryview(back.load())[:5]) == b"hello"
    keep_alive.clear()


keep_alive: list[Any] = []


def pack_kept(buffer: Any) -> bundles.Bundle:
    keep_alive.append(pack(buffer))
    return keep_alive[-1]


def test_a_ticket_holds_until_the_message_is_there(arena: Arena, others: Callable[[], Other]) -> None:
    other = others()
    other(there, "bundle", frames_of(pack_kept(bytearray(b"hello" * SIZE))))
    other(opened, "bundle", "data")
    other(write, "data", b"HELLO")
    frames = other(send_back, "data")
    keep_alive.clear()
    other(drop, "data", "bundle")
    assert other(on_the_way) == 1
    back = bundles.decode(frames, 0)
    assert other(on_the_way) == 0
    value = back.load()
    del back
    assert bytes(value[:5]) == b"HELLO"
    assert other(free) == 0
    del value
    assert other(free) > 0


def on_the_way() -> int:
    arena = doors.arena()
    assert arena is not None
    return arena.on_the_way


def free() -> int:
    arena = doors.arena()
    assert arena is not None
    return arena.free


def test_what_is_in_a_segment_already_is_not_copied(arena: Arena, others: Callable[[], Other]) -> None:
    """Read-only data, sent on by who received it: it comes back to where it was."""
    other = others()
    bundle = pack(b"hello" * SIZE)
    other(there, "bundle", frames_of(bundle))
    assert other(opened, "bundle", "data") == b"hello"
    frames = other(send_back, "data")
    taken = arena.taken
    back = bundles.decode(frames, 0)
    assert back.keepers == bundle.keepers
    del bundle
    other(drop, "data", "bundle")
    assert bytes(back.load()[:5]) == b"hello"
    assert arena.taken == taken
    del back
    assert other(on_the_way) == 0
    assert arena.free == taken


def test_its_bound(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "bound", 10 * GRAIN)
    segments = [arena.allocate(3 * GRAIN) for _ in range(4)]
    assert [segment is None for segment in segments] == [False, False, False, True]
    assert arena.taken <= 10 * GRAIN
    del segments[0]
    # What is free gives way to what is of another size.
    large = arena.allocate(4 * GRAIN)
    assert large is not None
    assert arena.taken == 10 * GRAIN
    assert arena.allocate(1) is None
    segments.clear()
    del large
    assert arena.allocate(1) is not None


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from zexec.wire.arena.owner import default_bound

    monkeypatch.setenv("ZEXEC_SHM_BYTES", "1000000")
    assert default_bound() == 1_000_000
    monkeypatch.setenv("ZEXEC_SHM_BYTES", "much")
    with pytest.raises(ValueError, match="'much'"):
        default_bound()
    monkeypatch.delenv("ZEXEC_SHM_BYTES")
    assert 1 << 20 < default_bound() < 1 << 60


def test_more_segments_than_it_has_numbers_for(arena: Arena) -> None:
    segments = [arena.allocate(1) for _ in range(SLOTS + 1)]
    assert segments.count(None) == 2  # number 0 is none
    segments.clear()
    assert arena.allocate(1) is not None


def test_address_space_is_given_back(arena: Arena) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as file:
            return sum("zexec-arena" in line and int(line.split()[2], 16) >= DATA_AT for line in file)

    before = mapped()
    for i in range(1, 50):
        segment = arena.allocate(i * GRAIN)
        assert segment is not None
        values = [segment.map(segment.offset, 100, True) for _ in range(10)]
        assert mapped() > before
        del segment, values
        arena.trim(0)
    assert mapped() == before
    assert os.fstat(arena.door.fd).st_blocks * 512 < 1 << 20


def test_a_fork_has_no_arena_and_takes_nothing_away(arena: Arena, others: Callable[[], Other]) -> None:
    segment = arena.allocate(SIZE)
    assert segment is not None
    buffer = segment.lend()
    other = others()
    assert other(arena_of_a_fork) == [True, True]
    del segment, buffer


def arena_of_a_fork() -> list[bool]:
    gc.collect()
    return [doors.arena() is None, doors.own(b"") is None]


def test_where_there_is_nothing_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert not doors.is_wanted()
    with pytest.raises(OSError, match="memfd"):
        doors.make_file("x")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda head: head[:10],
        lambda head: b"\xff" * len(head),
        lambda head: head[:4] + b"\xff" * 4 + head[8:],
        lambda head: head[: len(head) // 2],
        lambda head: b"\xff\xff" + head[2:],
    ],
)
def test_damaged_frames(arena: Arena, spoil: Callable[[bytes], bytes]) -> None:
    from zexec.errors import ProtocolError
    from zexec.messages import Results
    from zexec.wire import frames

    bundle = pack(bytearray(SIZE))
    whole = [bytes(frame) for frame in frames.encode(Results([(1, 0, bundle, 0.0, 0.0)]))]
    assert type(frames.decode(whole)) is Results
    with pytest.raises(ProtocolError):
        frames.decode([whole[0], spoil(whole[1]), *whole[2:]])


@pytest.mark.parametrize(
    ("slot", "offset", "size"), [(0, 0, 5), (SLOTS, 0, 5), (1, 5, 5), (1, 1 << 40, 5), (1, 1 << 27, 1 << 50)]
)
def test_references_to_nowhere(arena: Arena, others: Callable[[], Other], slot: int, offset: int, size: int) -> None:
    segment = arena.allocate(SIZE)
    assert segment is not None
    other = others()
    assert other(lease, arena.door.token, arena.pid, arena.door.fd, slot, segment.place[4], offset, size) is None
    assert other(lease, b"x" * 16, arena.pid, arena.door.fd, segment.place[3], 1, segment.offset, 5) is None
    assert other(lease, b"x" * 16, 1, 0, segment.place[3], 1, segment.offset, 5) is None
    place = segment.place
    assert other(lease, *place, segment.offset, 5) is not None


def lease(*where: Any) -> Any:
    kept["lease"] = found = bundles._lease(*where, False)
    return None if found is None else True
