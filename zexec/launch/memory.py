"""What the system says about memory: for the likely cause of an engine's death. Nothing here raises; what is unknown is None."""

from __future__ import annotations

import os

#: A process that has had this share of all the memory there is was at the limit.
AT_LIMIT = 0.8


def kills() -> int | None:
    """How often the memory killer has struck so far: in our control group, or else in this machine."""
    for path in (_group("memory.events", "memory.oom_control"), "/proc/vmstat"):
        for line in _read(path).splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def limit() -> int | None:
    """Bytes that we may use: our control group's limit, or the machine's memory."""
    limits = [int(text) for text in [_read(_group("memory.max", "memory.limit_in_bytes")).strip()] if text.isdigit()]
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        pass
    return min(limits, default=None)


def own_peak() -> int:
    """The most memory that this process has had, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cause(peak: int | None, kills_before: int | None) -> str:
    """The likely cause of a SIGKILL that was not ours.

    Args:
        peak: the most memory that the process had, in bytes.
        kills_before: ``kills()`` when it was started.
    """
    now = kills()
    if now is not None and kills_before is not None and now > kills_before:
        return "memory was at its limit: the system's memory killer has struck meanwhile"
    most = limit()
    if peak is not None and most is not None and peak >= AT_LIMIT * most:
        return f"memory was at its limit of {size(most)}"
    return "somebody killed it; the system does so when memory runs out, but does not say that it did"


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1 << 30:
        return f"{count / (1 << 20):.0f} MiB"
    return f"{count / (1 << 30):.1f} GiB"


def _group(name: str, old_name: str) -> str:
    """A file of our control group, in the second version of those or the first."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for folder, file in (("", name), ("/memory", old_name)):
            if controllers == folder[1:] and os.path.exists(found := f"/sys/fs/cgroup{folder}{path}/{file}"):
                return found
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
