"""Arenas that are found by an address: proofs, doors that are closed again, and what is on the way to several receivers."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire import test_arena
from tests.wire.test_arena import SIZE, Other, arena, frames_of, others, pack  # noqa: F401  # fixtures by their names
from zexec.wire import bundles
from zexec.wire.arena import doors
from zexec.wire.arena.owner import Arena


def address() -> Any:
    """Of the other's own arena."""
    doors._engine_home = doors.home()
    return doors.address_of(doors._engine_home)


def find(where: Any) -> bool:
    return doors.find(where)


def found() -> int:
    return len(doors._found)


def mine(fill: bytes) -> list[bytes]:
    """A bundle of the other's own, which it keeps."""
    test_arena.kept["mine"] = bundle = pack(bytearray(fill * SIZE))
    return frames_of(bundle)


for each in (address, find, found, mine):
    setattr(test_arena, each.__name__, each)


# -- proofs ------------------------------------------------------------------------------------------------------------


def test_found_by_its_token(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    other = others()
    token, pid, fd = other(address)
    assert pid == other.pid
    for wrong in ((os.urandom(16).hex(), pid, fd), (token, pid, 0), (token, 1 << 31, fd), (token, os.getpid(), fd)):
        assert not doors.find(wrong)
    for none in (
        None,
        5,
        "abc",
        [token, pid],
        [token, "x", fd],
        ["x", pid, fd],
        [token, pid, 1 << 80],
        [token[:8], pid, fd],
    ):
        assert not doors.find(none)
    assert doors._found == {}
    assert doors.find([token, pid, fd])
    assert len(doors._found) == 1
    doors.forget()
    assert doors._found == {}


def test_ones_own_is_never_opened_again(arena: Arena) -> None:  # noqa: F811
    """To close it would drop the lock by which others see that this process lives."""
    home = doors.home()
    assert home is not None
    assert doors.find(home.address)
    assert doors._found == {}
    assert not doors.find((os.urandom(16).hex(), *home.address[1:]))
    pid = os.fork()
    if not pid:
        os._exit(doors.is_locked(home.door.fd, doors.OWNER_AT))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_what_could_be_shortened_is_none(arena: Arena) -> None:  # noqa: F811
    token = os.urandom(16)
    fd = os.memfd_create("zexec-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, doors.DATA_AT)
        os.pwrite(fd, doors.MAGIC + token, 0)
        assert not doors.find((token.hex(), os.getpid(), fd))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        assert doors.find((token.hex(), os.getpid(), fd))
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(fd, 0)
        doors.forget()
    finally:
        os.close(fd)


# -- doors that close --------------------------------------------------------------------------------------------------


def test_let_go_of_with_the_last_that_is_used(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    other = others()
    assert doors.find(other(address))
    bundle = bundles.decode(other(mine, b"x"), 0)
    value = bundle.load()
    doors.forget(all=False)
    assert len(doors._found) == 1
    other.kill()
    doors.forget(all=False)
    assert len(doors._found) == 1
    del bundle
    assert bytes(value[:3]) == b"xxx"
    del value
    assert doors._found == doors._attached == {}


def test_found_again(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    """While something of it is in use its door stays the same; afterwards it is another."""
    other = others()
    assert doors.find(other(address))
    frames = other(mine, b"x")
    bundle = bundles.decode(frames, 0)
    doors.forget()
    again = bundles.decode(frames, 0)
    assert again.keepers[0]._attached is bundle.keepers[0]._attached
    del bundle, again
    assert doors._found == {}
    assert bytes(bundles.decode(frames, 0).load()[:3]) == b"xxx"
    doors.forget()
    assert doors._found == doors._attached == {}


def test_kept_while_something_may_be_on_its_way(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    """Its owner has ended, and what it sent before has not been read."""
    other = others()
    where = other(address)
    token = doors.keep(where)
    assert token == bytes.fromhex(where[0])
    assert doors.keep(where) == token
    frames = other(mine, b"k")
    other.kill()
    doors.forget(all=False)
    bundle = bundles.decode(frames, 0)
    assert not bundle.is_lost
    assert bytes(bundle.load()) == b"k" * SIZE
    del bundle
    doors.keep_no_more(token)
    doors.forget(all=False)
    assert len(doors._found) == 1
    doors.keep_no_more(token)
    doors.forget(all=False)
    assert doors._found == doors._kept == {}
    assert doors.keep(where) is None


def test_passed_on_by_one_who_has_it_when_its_owner_has_died(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    """As by a hub: the reference leads through a descriptor of this process's."""
    owner, reader = others(), others()
    assert doors.find(owner(address))
    bundle = bundles.decode(owner(mine, b"hello"), 0)
    owner.kill()
    reader(test_arena.there, "bundle", frames_of(bundle))
    del bundle
    doors.forget()
    assert reader(test_arena.opened, "bundle", "data") == b"hello"


def test_what_is_lost_is_said_to_be(arena: Arena, others: Callable[[], Other]) -> None:  # noqa: F811
    other = others()
    other(address)
    frames = other(mine, b"x")
    other.kill()
    bundle = bundles.decode(frames, 0)
    assert bundle.is_lost
    again = bundles.decode(frames_of(bundle, refer=False), 0)
    assert again.is_lost
    with pytest.raises(bundles.SegmentLostError):
        again.load()


# -- several receivers -------------------------------------------------------------------------------------------------


def test_who_does_not_read_holds_up_nobody_else(arena: Arena) -> None:  # noqa: F811
    slow, quick = doors.Lane(), doors.Lane()
    tickets = arena.table.tickets
    pack(bytearray(SIZE)).encode(slow, True)
    for _ in range(3):
        pack(bytearray(SIZE)).encode(quick, True)
    assert arena.on_the_way == 4
    for number, _ in quick.waiting:
        tickets[number] = 0
    assert (arena.on_the_way, len(slow.waiting), len(quick.waiting)) == (1, 1, 0)
    (number, _), *_ = slow.waiting
    slow.close()
    assert (arena.on_the_way, arena.free) == (0, arena.taken)
    # Its ticket is not given to others: perhaps it reads yet.
    for _ in range(5):
        pack(bytearray(SIZE)).encode(quick, True)
    assert number not in [each for each, _ in quick.waiting]
    tickets[number] = 0
    quick.close(patience=60)
    assert arena.on_the_way == 5
    for _, each, _ in arena._late:
        tickets[each] = 0
    assert arena.on_the_way == 0


def test_too_many_on_the_way_go_by_value(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    lane = doors.Lane()
    monkeypatch.setattr(arena, "_tickets", iter(()))
    monkeypatch.setattr(arena, "_free_tickets", [])
    _, value = pack(bytearray(b"x" * SIZE)).encode(lane, True)
    assert bytes(value) == b"x" * SIZE
    assert not lane.waiting
