"""The stdlib's own tests, unmodified, run on zexec's Pool and Executor.

    python -m compat.stdlib [--start-method fork] [-k pattern] [-v] [--json FILE]

What happens to one suite, and in which file:

    __main__      chooses the suites and prints the score
    suites        which of the interpreter's tests are taken, and why not the others
    environment   makes a throwaway virtual environment in which every interpreter, however it is started,
    startup         ... begins by swapping zexec's classes in, as `python -m zexec run` does
    watch         starts the suite's process there; a hang, a crash or a leak becomes a failure with stacks
    processes       ... and finds, dumps and ends what a suite started
    child         is that process: loads the tests, runs them, writes one line per event
    verdict       holds the outcomes against differences.toml (differences), where each known difference has its reason
    score         counts and prints
    table         makes the table in docs/differences.md out of differences.toml

No test is copied: they are imported from the running interpreter, and where it ships without them, the run says so.
"""
