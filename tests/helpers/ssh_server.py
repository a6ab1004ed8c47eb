"""An ssh server by asyncssh, on the loopback: ``python -m tests.helpers.ssh_server HOST_KEY AUTHORIZED_KEYS``.

Prints its port. Runs what it is told to by the shell, as sshd does, and closes its standard input when the connection ends.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any


async def run(process: Any) -> None:
    """One command of one connection."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(await child.wait())


async def serve(host_key: str, keys: str) -> None:
    import asyncssh

    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=keys,
        process_factory=run,
        encoding=None,
    )
    print(server.get_port(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
