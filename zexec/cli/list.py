"""`zexec list`: the clusters that have their files here."""

from __future__ import annotations

import argparse
import json
from typing import Any


def main(argv: list[str]) -> int:
    """List clusters, one to a line.

    Args:
        argv: What follows the word `list`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec list", description="Name the clusters whose files are here, dead ones too."
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(argv)
    from zexec.net import cards

    found = [facts for name in cards.names() if (facts := look_at(name)) is not None]
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for facts in found:
        print(
            f"{facts['name']:20} {facts['state']:8} hub {facts['pid']} on {facts['host']}  {' '.join(facts['endpoints'])}"
        )
    return 0


def look_at(name: str) -> dict[str, Any] | None:
    """What a cluster's folder says; None if there is nothing of it but perhaps a store."""
    from zexec.errors import ClusterError
    from zexec.net import cards

    path = cards.folder_of(name) / f"{cards.CLIENT}.json"
    if not path.exists():
        return None
    try:
        card = cards.read(path)
    except ClusterError as e:
        return {"name": name, "state": "damaged", "why": str(e), "pid": -1, "host": "?", "endpoints": []}
    state = {True: "dead", False: "running", None: "unknown"}[card.is_stale()]
    return {**cards.plain(card), "state": state}
