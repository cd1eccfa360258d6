"""Imported by every Python that has this folder on its path: what asks the network is refused, and written down.

Loopback and sockets of this machine are let through: DVC, Git and multiprocessing talk to themselves.
"""

import os
import socket
import sys
from pathlib import Path

LOG = os.environ.get("PRESS_NETWORK_LOG")
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _refuse(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        asked = arguments[1]
        if not isinstance(asked, tuple) or str(asked[0]).startswith(LOCAL):
            return
    elif event == "socket.getaddrinfo":
        asked = arguments[0]
        if asked is None or str(asked).startswith(LOCAL) or asked == socket.gethostname():
            return
    else:
        return
    with Path(LOG).open("a", encoding="utf-8") as file:
        file.write(f"{os.environ.get('DVC_STAGE', '?')} {event} {asked} {' '.join(sys.argv)[:200]}\n")
    raise OSError(f"a test refuses the network: {event} {asked}")


if LOG:
    sys.addaudithook(_refuse)
