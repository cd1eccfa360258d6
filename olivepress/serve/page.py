"""The page to chat on, which the server hands out itself: a few files, and a policy that lets it ask nobody else."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

OWN, SHARED = files("olivepress.serve") / "static", files("olivepress.talk")
FILES = {
    "/": (OWN / "index.html", "text/html; charset=utf-8"),
    "/chat.js": (OWN / "chat.js", "text/javascript; charset=utf-8"),
    "/talk.css": (SHARED / "talk.css", "text/css; charset=utf-8"),
    "/talk.js": (SHARED / "talk.js", "text/javascript; charset=utf-8"),
    "/icon.svg": (SHARED / "icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file of the page. No key is asked for: there is nothing of the model in them."""
    return [_route(path, file, kind) for path, (file, kind) in FILES.items()]


def _route(path: str, file: Traversable, kind: str) -> Route:
    content = file.read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return Route(path, send, methods=["GET"])
