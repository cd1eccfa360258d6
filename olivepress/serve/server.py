"""The process: a socket, uvicorn, and an end in order when it is told to."""

import signal
import socket
from ipaddress import ip_address

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from olivepress.core.errors import PressError
from olivepress.core.report import note
from olivepress.serve.app import Service, make_app

LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")


def serve(service: Service, host: str, port: int, grace: int) -> None:
    """Serve until SIGTERM or Ctrl-C: running answers end within ``grace`` seconds, and nothing new is taken.

    ``port`` 0: a free one, which is said. PressError if the address cannot be had.
    """
    listening = _listen(host, port)
    name, bound = listening.getsockname()[:2]
    app: ASGIApp = make_app(service)
    if service.keys.open and _is_loopback(name):
        # a web page elsewhere could give its own name this address (DNS rebinding), and ask as if it were from here
        app = TrustedHostMiddleware(app, allowed_hosts=[*LOCAL, name], www_redirect=False)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
        lifespan="on",
        ws="none",
    )
    # uvicorn raises the signal that ended it once more when all is done: an end in order has status 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    shown = f"[{name}]" if ":" in name else name
    if service.keys.open and not _is_loopback(name):
        note("Everybody who reaches this address may ask: no --api-keys.")
    note(
        f"Serving {service.served.name} ({', '.join(service.adapters.names) or 'no adapters'}) at http://{shown}:{bound}/v1"
    )
    uvicorn.Server(config).run(sockets=[listening])
    note("Ended.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        raise PressError(
            f"{host}:{port}: cannot be listened at: {error.strerror}. Choose another by --port."
        ) from error


def _is_loopback(name: str) -> bool:
    return ip_address(name.partition("%")[0]).is_loopback
