"""Memory that processes of one host share: large data moves by reference.

::

    sender                      one file without a name (memfd)                receiver
    ──────                      ────────────────────────────────               ────────
    Arena ──── Segment ───────► [ header | segment | segment | hole | ...] ◄─── Attached ─── Lease ─── mapping
    copies data in, once        grows at its end, for ever: a hole costs nothing            an array's memory

A process that sends large data owns an *arena*: one file that has no name, so it is gone with the last process that has it,
however that ends. In it are *segments*: ranges that hold the data of a message. The message names the segment; who receives
it *leases* the segment and maps it. An owner lets nobody write but itself; others map privately: what they write is their own.

When is a segment free again?
  Its owner holds it by a Python object, ``Segment``: as long as a task is open that may have to be sent, or an array lives in
  it. Each other process has a *row* of counters in the file's header, one per segment, that only it writes: how often it
  has leased that. A segment is free when the owner holds it no more and no row counts it. A process says that its row
  is its own by a lock (``lockf``), and the system takes that away when the process ends: a row that nobody has locked counts
  for nothing. So there are no messages about it, nobody has to be told of a death, and a killed process holds nothing.
  Who waits for an array to be let go of is woken by a futex in the header.
  (A row is locked per process: never close a descriptor of an arena's file that the process has a row in.)

Who holds it on the way?
  A task's data: the hub, until the task has ended. By then its engine has leased the data or will never look at it.
  A result's, and all on its way to or from a hub in another process: the sender, by a *ticket*: a byte in its own header that
  it sets before it sends, and that the receiver clears when it has its lease.

And if a message comes too late?
  Each segment has a *generation*, in the header, that changes when it is used again. A message says which it means, so it is
  never taken for another: what is gone raises ``SegmentLostError``.

  memory    the system's calls: files, mappings, addresses
  table     the header: what is where
  owner     Arena, Segment
  reader    Attached, Lease: other processes' arenas
  waiting   until readers let go of something

Threads: one lock for all of it, that of ``memory.RELEASES``, held for short. What is let go by garbage collection, which may
happen while it is held, by the same thread, waits in a queue there until somebody may take the lock.
"""
