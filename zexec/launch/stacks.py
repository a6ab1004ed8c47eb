"""The stacks of engines on this machine, whatever they do: they write them down at a signal, see ``zexec.engine.ledger``."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep

from zexec.engine.ledger import STACK_SIGNAL, Ledger

#: Seconds that engines have to write, and between two looks. One that has written nothing new since the last look is done.
PATIENCE, LOOK = 0.5, 0.01


def collect(ledgers: Mapping[int, tuple[int, Ledger]]) -> dict[int, str]:
    """The stacks of all threads of each engine, or why they are not to be had; by serial.

    Args:
        ledgers: the process and the ledger of each.
    """
    found, asked = {}, {}
    for serial, (pid, ledger) in ledgers.items():
        why = _cannot_write(pid)
        try:
            if not why:
                ledger.ask_for_stacks(pid)
                asked[serial] = ledger
        except (ValueError, OSError):
            why = "it has ended"
        found[serial] = why
    until = monotonic() + PATIENCE
    while asked and monotonic() < until:
        sleep(LOOK)
        for serial, ledger in list(asked.items()):
            try:
                text = ledger.stacks()
            except ValueError:
                text = "it has ended"
            if text and text == found[serial]:
                del asked[serial]
            found[serial] = text
    return {serial: text or "it has not written its stacks" for serial, text in found.items()}


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    return _status(pid).get("State", "?").startswith("T")


def _status(pid: int) -> dict[str, str]:
    status = {}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                status[name] = value.strip()
    except OSError:
        pass
    return status


def _cannot_write(pid: int) -> str:
    """Why a process will not answer a signal; an empty text if it will."""
    status = _status(pid)
    if not status:
        return "it has ended"
    state = status.get("State", "?")[:1]
    if state == "T":
        return "it is stopped, by SIGSTOP or from a terminal; SIGCONT lets it go on"
    if state in "ZX":
        return "it has ended"
    # Whoever does not catch the signal would be ended by it.
    if not int(status.get("SigCgt", "0"), 16) >> (STACK_SIGNAL - 1) & 1:
        return "it is starting, or something in it has taken the signal that it writes its stacks at"
    return ""
