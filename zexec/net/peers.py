"""What a process says of itself when it wants to take part in a cluster."""

from __future__ import annotations

import os
import platform
import socket
import sys
from time import time

from zexec.messages import Peer


def myself() -> Peer:
    """This process."""
    return Peer(os.getpid(), socket.gethostname(), platform.python_version(), sys.executable, _numpy(), time())


def _numpy() -> str:
    module = sys.modules.get("numpy")
    if module is not None:
        return str(module.__version__)
    from importlib import metadata

    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return ""
