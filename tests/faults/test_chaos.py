"""Random steps, random faults: every result settles once, and rightly. 20 seeds here, a thousand with ``tox -e chaos``.

Engines are killed on every host, the hub on the one that has its tasks in a file.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.faults.chaos import Chaos
from tests.faults.conftest import make
from tests.helpers import leftovers
from tests.helpers.hosts import Host, StoreHost

SEEDS = int(os.environ.get("ZEXEC_CHAOS", "20"))
#: Which host each seed is for: forked engines most of the time, because those start fastest.
HOSTS = ("fork", "store", "spawn", "fork", "cluster")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_chaos(seed: int, nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make(HOSTS[seed % len(HOSTS)], nothing_left, monkeypatch)
    try:
        run(host, seed)
    finally:
        host.end()


def run(host: Host, seed: int) -> None:
    pool = host.pool()
    chaos = Chaos(pool, seed, host if isinstance(host, StoreHost) else None)
    try:
        chaos.run()
    except BaseException:
        print(f"seed {seed} on {host}:", *chaos.log)
        pool.dump(sys.stdout)
        raise
