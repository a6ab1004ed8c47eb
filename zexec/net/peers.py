"""What a process says of itself when it wants to take part in a cluster."""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from time import time

from zexec.messages import Peer


def myself() -> Peer:
    """This process."""
    return Peer(os.getpid(), socket.gethostname(), platform.python_version(), sys.executable, _numpy(), time())


def _numpy() -> str:
    module = sys.modules.get("numpy")
    if module is not None:
        return str(module.__version__)
    # It stands beside its description, whose folder's name tells. To have importlib.metadata look takes longer than all else
    # that an engine does until it is up.
    spec = find_spec("numpy")
    if spec is None:
        return ""
    for folder in spec.submodule_search_locations or ():
        found = list(Path(folder).parent.glob("numpy-*.dist-info"))
        if len(found) == 1:
            return found[0].name[len("numpy-") : -len(".dist-info")]
    from importlib import metadata

    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return ""
