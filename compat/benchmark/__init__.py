"""zexec against its peers: the same rows, in turn, each in a fresh process. `python -m compat.benchmark --help`.

    __main__     the command line
    run          the orchestration: which measurements, in which order, and the record of each
    processes    one measurement's process tree: its start, its deadline, its end, and how it looks from outside
      ── a pipe, to a fresh process ──
    child        the fresh process: one row of one peer
    rows         what is measured, one function per row
    peers        how each peer is driven, one small class per peer
    tasks        what the engines run
    core_alone   the row that no peer has: zexec's scheduler without processes
      ── back here ──
    figures      what each number means, and the budgets that zexec has for it
    report       medians, verdicts, text table
    picture      the same as a picture

The part below the pipe imports next to nothing: whatever it imports counts in the peers' start and memory.

A new row is a function in rows.py (entered in its ROWS), a Figure in figures.py, and, if the peers need a new ability
for it, a method in peers.py. The rows that move arrays are to come that way.
"""
