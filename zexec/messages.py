"""The one vocabulary: what clients, hub and engines say to each other.

Named tuples, no behaviour; what is changed (Task) or is only equal to itself (Function) is a slotted class. Not dataclasses:
those took 13 of the 56 ms in which a pool is imported, started and ended, with the modules that they need, and 3 MiB of each
spawned engine. ``payload`` is opaque everywhere but in clients and engines: bytes, or a bundle with large data
(``zexec.wire.bundles``); the hub passes it on and never looks inside. Status and kind codes are small ints because they
travel in every record of every bulk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

# -- what kind of call a task is: how the engine reads the payload, decided by the client ----------------------------

CALL = 0  #: payload is (args, kwargs): one call
MAP = 1  #: payload is a list of items: f(item) for each
STARMAP = 2  #: payload is a list of tuples: f(*item) for each
KEEP_GOING = 4  #: added to MAP or STARMAP: a failing item does not end its chunk
CHAINED = 8  #: added by the hub: run it only if the task numbered before it has ended well there, or else give it back

# -- how a task ended ------------------------------------------------------------------------------------------------

OK = 0  #: payload is the pickled value
ERROR = 1  #: the function raised; payload is a pickled report of the exception
ARGUMENTS = 2  #: the engine could not unpickle function or arguments; report as for ERROR
RESULT = 3  #: the value could not be pickled; report as for ERROR
PARTIAL = 4  #: items of a chunk failed; payload is (values so far or per-item marks, reports)
UNMET = 5  #: the function says that it cannot run on that engine; report as for ERROR; the last that engines say
DIED = 6  #: the engine died while it ran the task; detail is a Death
CANCELLED = 7  #: taken back before it started, or stopped on request
TIMEOUT = 8  #: ran longer than its time-out; detail is the time-out in seconds
BROKEN = 9  #: the cluster cannot run tasks any more; detail is a Death or text
TERMINATED = 10  #: the cluster was terminated with the task open
NO_ENGINE = 11  #: none of the task's targets exists; detail is text
LOCAL = 12  #: never left the client; detail is the exception
IMPOSSIBLE = 13  #: what it waited for can never be; detail is text
WAITED = 14  #: what it waited for has not come in time; detail is text
UNSTORED = 15  #: the hub's store cannot take it in; detail is text

#: A task's id in a hub with many clients: the number of the client, shifted by so many bits, and a number of the client's.
CLIENT_BITS = 40

FAILED_REMOTELY = frozenset({ERROR, ARGUMENTS, RESULT, PARTIAL})
#: what engines say of tasks that have run: in their outcomes, ``detail`` is the serial of the engine
RAN = frozenset({OK, UNMET, *FAILED_REMOTELY})

# -- where a task is: the states of core.scheduler -------------------------------------------------------------------

WAITING = "waiting"  #: in a ready queue
SENT = "sent"  #: held by an engine, started or not
REVOKING = "revoking"  #: held by an engine that was asked to give it back
SETTLED = "settled"  #: ended, one way or another


class Function:
    """A callable as it travels: pickled once, sent to each engine once, found there by its digest."""

    __slots__ = ("digest", "name", "payload", "shared", "spread")

    def __init__(self, digest: bytes, payload: Any, name: str, shared: bool = False, spread: bool = False) -> None:
        self.digest = digest
        self.payload = payload
        self.name = name
        #: an engine may load it once and use it for every task, because no task can change it
        self.shared = shared
        #: its tasks go around the idle engines, rather than to the one that was last at work
        self.spread = spread


class Task:
    """One call, or one chunk of a map. The client fills the first half, the scheduler alone writes the second.

    Half its slots stay unset until they mean something, which makes creation twice as fast, and there is one per call.
    """

    __slots__ = (
        "attempts",
        "cancelling",
        "cost",
        "engine",
        "expired",
        "function",
        "id",
        "kind",
        "payload",
        "priority",
        "retries",
        "seq",
        "size",
        "state",
        "targets",
        "timeout",
    )

    def __init__(
        self,
        id: int,
        function: Function,
        kind: int,
        payload: Any,
        size: int = 1,
        priority: int = 0,
        retries: int = 0,
        timeout: float | None = None,
        targets: frozenset[int] | None = None,
    ) -> None:
        self.id = id  #: unique among the tasks of one hub
        self.function = function
        self.kind = kind
        self.payload = payload
        self.size = size  #: items in it
        self.priority = priority  #: higher first
        self.retries = retries  #: further attempts allowed after a failure
        self.timeout = timeout  #: seconds it may run, or None
        self.targets = targets  #: engine ids it may run on, or None for any
        self.state = WAITING
        self.cost: float  #: seconds it was expected to take when it was sent
        self.engine: int  #: serial of the engine that holds it (states SENT and REVOKING)
        self.seq: int  #: its number in that engine's queue
        self.attempts = 0  #: times it was started and failed
        self.cancelling = False  #: revoked because somebody wants it cancelled
        self.expired: int  #: the status it gets when its interrupted run ends: TIMEOUT or CANCELLED

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.function.name} {self.state}>"


#: How one task ended, as the hub reports it to a client: (task id, status, payload for OK and FAILED_REMOTELY, plain data
#: that explains a status the hub made or else the engine's serial, id of the engine or -1, wall-clock start on the engine,
#: seconds it ran). A tuple, because there is one per task and a class costs five times as much.
Outcome = tuple[int, int, Any, Any, int, float, float]


class Death(NamedTuple):
    """Why an engine is gone, for messages to people."""

    engine: int
    pid: int
    host: str
    exitcode: int | None = None  #: as multiprocessing has it: negative is a signal
    reason: str = ""  #: more, where it is known
    peak: int | None = None  #: the most memory that it had, in bytes, where that is known

    def describe(self) -> str:
        how = self.reason or "it vanished"
        if self.exitcode is not None:
            how = _name_exit(self.exitcode) + (f" ({self.reason})" if self.reason else "")
        had = "" if self.peak is None else f", with {self.peak / (1 << 20):.0f} MiB of memory at its peak,"
        return f"engine {self.engine} (pid {self.pid} on {self.host}) died: {how}{had}"


def _name_exit(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    import signal

    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = str(-exitcode)
    return f"killed by signal {name}"


class EngineInfo(NamedTuple):
    """An engine as it introduces itself."""

    serial: int  #: unique among all engines a hub has ever had
    id: int  #: the place it fills: 0, 1, 2 ...; its replacement gets the same
    pid: int
    host: str
    allowance: int | None = None  #: tasks it may run before it leaves


# -- records on the wire between hub and engine ----------------------------------------------------------------------

#: one task of a bulk: (function digest, kind, payload or frame index, time-out or None)
TaskRecord = tuple[bytes, int, Any, "float | None"]
#: one result of a bulk: (seq, status, payload or frame index, started, seconds)
ResultRecord = tuple[int, int, Any, float, float]


class Tasks(NamedTuple):
    """hub -> engine: run these, numbered from ``base`` on."""

    base: int
    tasks: list[TaskRecord]  #: the engine takes them out as it runs them
    functions: Sequence[tuple[bytes, Any, bool]] = ()  #: those that are new to the engine: digest, payload, shared
    forget: Sequence[bytes] = ()  #: functions it may drop


class Results(NamedTuple):
    """engine -> hub."""

    records: Sequence[ResultRecord]


class Revoke(NamedTuple):
    """hub -> engine: give these back unless they have started."""

    seqs: Sequence[int]


class Returned(NamedTuple):
    """engine -> hub: of ``asked``, I gave back ``given``; the others have started. Unasked where they are CHAINED."""

    asked: Sequence[int]
    given: Sequence[int]


class Interrupt(NamedTuple):
    """hub -> engine: raise in the main thread if it is running this."""

    seq: int


class Signal(NamedTuple):
    """hub -> engine: somebody sends this signal. An interrupt raises KeyboardInterrupt in what runs now, if anything does."""

    number: int


class Started(NamedTuple):
    """engine -> hub: this one runs now. Sent only for tasks with a time-out."""

    seq: int


class Said(NamedTuple):
    """engine -> hub: the task that runs says this to its client; opaque to the hub."""

    seq: int
    news: Any


class Hello(NamedTuple):
    """engine -> hub, on each of its two channels: I am here."""

    info: EngineInfo
    channel: str


class InitFailed(NamedTuple):
    """engine -> hub: the initializer raised; I leave."""

    report: Any = None


class Stop(NamedTuple):
    """hub -> engine: finish the task you run, if any, and leave."""

    reason: str = ""


# -- an engine that comes by itself, before it is one of the cluster's -------------------------------------------------


class Peer(NamedTuple):
    """Facts about a process that wants to take part in a cluster, as it states them itself."""

    pid: int
    host: str
    python: str  #: version, "3.13.1"
    executable: str
    numpy: str  #: version, "" if there is none
    clock: float  #: its wall clock when it said so


class Register(NamedTuple):
    """engine -> hub: I would like to join."""

    peer: Peer
    #: by which whoever started it knows it again
    token: str = ""
    #: what it is called, for as long as it lives
    uuid: str = ""
    #: if it was an engine of an earlier life of this hub: numbers and tasks that it holds, its next number, its place
    claims: Any = None
    next_seq: int = 0
    place: int = -1
    #: where its shared memory is, if it has any: see ``zexec.wire.arena.doors``
    home: Any = None
    #: numbers of those that it was told to interrupt
    stirred: Any = None


class Welcome(NamedTuple):
    """hub -> engine: you fill place ``id``."""

    serial: int
    id: int
    #: which life of the hub this is
    life: str = ""
    #: whether there may be another after its end, which wants to know what its engines hold
    durable: bool = False
    #: where the hub's shared memory is, if it has any
    home: Any = None
    #: whether the hub can reach the engine's
    reached: bool = False


class Reached(NamedTuple):
    """engine -> hub, client -> hub: I can reach your shared memory, so what you have in it, or in others', need not be sent."""


class Named(NamedTuple):
    """hub -> engine, before Tasks: which tasks the numbers from ``base`` on are."""

    base: int
    ids: Sequence[int]


class Stored(NamedTuple):
    """hub -> engine: these results will survive me."""

    seqs: Sequence[int]


class Refused(NamedTuple):
    """hub -> engine, hub -> client: you cannot take part."""

    reason: str


class Pulse(NamedTuple):
    """Any -> any: nothing. Sent to learn whether there is somebody to send to."""


class Full(NamedTuple):
    """engine -> hub: I have as much memory as I may have, and start nothing any more."""


class Leave(NamedTuple):
    """hub -> engine, for its io thread: end at once, whatever you are doing."""

    reason: str = ""


# -- between clients and a hub in a process of its own -------------------------------------------------------------------


class Greet(NamedTuple):
    """client -> hub: I am here."""

    peer: Peer
    name: str  #: for people; empty: not worth listing
    #: the number it had before, to go on with what it left there; -1: it is new
    client: int = -1
    #: where its shared memory is, if it has any
    home: Any = None


class Greeted(NamedTuple):
    """hub -> client. Its tasks have ids from ``client << CLIENT_BITS`` on."""

    client: int
    cluster: str
    #: the hub's process, for messages
    host: str
    pid: int
    #: whether the hub may come back after its end with all that it knew
    durable: bool
    #: where the hub's shared memory is, if it has any
    home: Any = None
    #: whether the hub can reach the client's
    reached: bool = False


class Submit(NamedTuple):
    """client -> hub: run these. The functions of the tasks are known by digest; those new to the hub are in ``functions``."""

    tasks: Sequence[Task]
    functions: Sequence[Function] = ()
    #: what all of them wait for: plain data, see ``wire.talk``
    needs: Any = None


class Outcomes(NamedTuple):
    """hub -> client."""

    outcomes: Sequence[Outcome]


class Heard(NamedTuple):
    """hub -> client: a task says this while it runs."""

    id: int
    news: Any


class Cancel(NamedTuple):
    """client -> hub: take these back; with ``running`` also if they have started."""

    ids: Sequence[int]
    running: bool = False


class Withdraw(NamedTuple):
    """client -> hub: I do not wait any more for the answer to Cancel; let them run."""

    ids: Sequence[int]


class Kept(NamedTuple):
    """hub -> client: these have started and cannot be cancelled."""

    ids: Sequence[int]


class Ended(NamedTuple):
    """client -> hub: I have heard of the end of a task that others wait for: as ``core.dependencies.End``."""

    id: int
    ok: bool
    engine: int
    serial: int


class Ask(NamedTuple):
    """client -> hub: a question or an order, by name, with plain data."""

    number: int
    what: str
    args: Any = None


class Answer(NamedTuple):
    """hub -> client. ``error`` says why there is none."""

    number: int
    value: Any = None
    error: str = ""


class News(NamedTuple):
    """hub -> client: other engines are there now; ask which if you want to know."""

    engines: int


class Bye(NamedTuple):
    """client -> hub: I leave; with ``detach`` what is open goes on, and results are kept.

    hub -> client: I leave, and why.
    """

    detach: bool = False
    reason: str = ""
