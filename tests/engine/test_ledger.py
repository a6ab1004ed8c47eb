"""The ledger: what an engine writes, the hub reads, wherever the engine was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from zexec.engine import ledger
from zexec.engine.ledger import Ledger
from zexec.messages import OK, ResultRecord


@pytest.fixture
def sides() -> Iterator[tuple[Ledger, Ledger]]:
    """The hub's and the engine's: two mappings of the same memory."""
    hub = Ledger()
    engine = Ledger(os.dup(hub._fd))
    yield hub, engine
    for side in (hub, engine):
        side.close()


def record(seq: int, payload: bytes = b"value") -> ResultRecord:
    return seq, OK, payload, 1.5, 0.25


def test_a_fresh_one_says_that_nothing_began(sides: tuple[Ledger, Ledger]) -> None:
    hub, _ = sides
    assert hub.started == -1
    assert hub.results() == []


def test_what_the_engine_notes_the_hub_reads(sides: tuple[Ledger, Ledger]) -> None:
    hub, engine = sides
    engine.start(7)
    assert engine.keep(record(7))
    engine.start(8)
    assert engine.keep(record(8, b""))
    engine.start(1 << 40)
    assert hub.started == 1 << 40
    assert hub.results() == [record(7), record(8, b"")]


def test_what_was_sent_is_forgotten(sides: tuple[Ledger, Ledger]) -> None:
    hub, engine = sides
    assert engine.keep(record(0))
    engine.clear()
    assert hub.results() == []
    assert engine.keep(record(1))
    assert hub.results() == [record(1)]


def test_what_it_has_no_room_for_it_refuses(sides: tuple[Ledger, Ledger]) -> None:
    hub, engine = sides
    assert not engine.keep(record(0, bytes(ledger.LARGE)))
    assert not engine.keep((0, OK, None, 0.0, 0.0))
    kept = []
    while engine.keep(record(len(kept), bytes(ledger.LARGE - 1))):
        kept.append(record(len(kept), bytes(ledger.LARGE - 1)))
    assert len(kept) == ledger.ROOM // (ledger.LARGE + ledger._RESULT.size)
    assert hub.results() == kept
    engine.clear()
    assert engine.keep(record(99))
    assert hub.results() == [record(99)]


def test_a_result_counts_when_all_of_it_is_there(sides: tuple[Ledger, Ledger]) -> None:
    """Killed between the two writes: as if the second result had never been."""
    hub, engine = sides
    assert engine.keep(record(0))
    before = hub._numbers[ledger._END]
    assert engine.keep(record(1))
    hub._numbers[ledger._END] = before
    assert hub.results() == [record(0)]


@pytest.mark.parametrize("end", [-1, 1, ledger._RESULT.size, 1 << 62])
def test_scribbles_are_no_results_that_were_not_kept(sides: tuple[Ledger, Ledger], end: int) -> None:
    """A task that writes where it should not: nothing is read beyond the memory, and nothing raises."""
    hub, engine = sides
    engine._map[ledger._RESULTS : ledger._RESULTS + 64] = b"\xff" * 64
    engine._numbers[ledger._END] = end
    assert hub.results() == []
