"""The routes: OpenAI's under /v1, the administrator's under /admin, what machines ask about it, and the page."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from olivepress.core.errors import PressError
from olivepress.core.report import note
from olivepress.runtime.sampling import StopText
from olivepress.serve.access import Keys
from olivepress.serve.adapters import Adapters
from olivepress.serve.chooser import Chooser
from olivepress.serve.decoder import Adapter
from olivepress.serve.engine import End, Engine, Job, Piece
from olivepress.serve.errors import ApiError
from olivepress.serve.metrics import Metrics
from olivepress.serve.page import page_routes
from olivepress.serve.replies import Reply, event, usage
from olivepress.serve.requests import ChatRequest, NewAdapter, TextRequest, read_body
from olivepress.serve.served import Served
from olivepress.serve.tools import grammar, told

if TYPE_CHECKING:
    import llguidance

SECONDS_TO_SEND = 30.0  # a request's body
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
GONE = ApiError(499, "the client is gone.", "client_gone")


@dataclass(frozen=True)
class Limits:
    """``body``: bytes of a request; ``seconds``: of a request, from its coming; ``prompts``: write them to the log."""

    body: int
    seconds: float
    prompts: bool = False


class Answering:
    """One answer on its way from the engine's thread to a client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: asyncio.Queue[Piece | End | ApiError] = asyncio.Queue()
        self.job: Job | None = None
        self.came = time.monotonic()
        self.ended = False  # the metrics and the log know of it
        self._gone = False

    def emit(self, found: Piece | End | ApiError) -> None:
        """For the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, found)

    async def next(self) -> Piece | End:
        """What comes next; ApiError if that is one, or the client is gone."""
        found = GONE if self._gone else await self._events.get()
        if isinstance(found, ApiError):
            raise found
        return found

    async def watch(self, receive: Receive) -> None:
        """Until the client is gone: the answer ends then."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.job.cancel()
        self._gone = True
        self._events.put_nowait(GONE)


class EventStream(StreamingResponse):
    """A stream of an answer, which is not written further when the client is gone or the server gives up on it.

    ``over`` is called at its end, whichever it is.
    """

    def __init__(self, content: AsyncIterator[bytes], answering: Answering, over: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._answering, self._over = answering, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._answering.watch(receive))
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            watch.cancel()
            self._answering.job.cancel()
            self._over()


class Service:
    """What the routes do, of one model."""

    def __init__(
        self, served: Served, adapters: Adapters, engine: Engine, *, keys: Keys, admin: Keys | None, limits: Limits
    ) -> None:
        self.served, self.adapters, self.engine = served, adapters, engine
        self.keys, self.admin, self.limits = keys, admin, limits
        self.metrics = Metrics(engine)
        self.created = int(time.time())
        self._words = ThreadPoolExecutor(2, "words")  # templates, tokens and hashes are not the event loop's work

    def routes(self) -> list[Route]:
        """All of them."""
        admin = self._administrator
        return [
            self._route("/v1/chat/completions", "POST", partial(self._answer, ChatRequest), self.keys.check),
            self._route("/v1/completions", "POST", partial(self._answer, TextRequest), self.keys.check),
            self._route("/v1/models", "GET", self._models, self.keys.check),
            self._route("/v1/models/{model:path}", "GET", self._model, self.keys.check),
            self._route("/admin/adapters", "GET", self._list, admin),
            self._route("/admin/adapters", "POST", self._add, admin),
            self._route("/admin/adapters/{name}", "DELETE", self._remove, admin),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/healthz", self._health, methods=["GET"]),
            Route("/readyz", self._health, methods=["GET"]),
            *page_routes(),
        ]

    def _route(
        self,
        path: str,
        method: str,
        call: Callable[[Request], Awaitable[Response]],
        allow: Callable[[str | None], None],
    ) -> Route:
        """``call`` for who is allowed to; a refusal in OpenAI's form; both are counted."""

        async def run(request: Request) -> Response:
            try:
                allow(request.headers.get("authorization"))
                response = await call(request)
            except ApiError as error:
                response = refusal(error)
            except ClientDisconnect:
                response = refusal(GONE)
            self.metrics.requests.labels(path.partition("{")[0], response.status_code).inc()
            return response

        return Route(path, run, methods=[method])

    def _administrator(self, authorization: str | None) -> None:
        if self.admin is None:
            raise ApiError(403, "there is no administrator: the server was started without a token.", "disabled")
        self.admin.check(authorization)

    # --- answers

    async def _answer(self, kind: type[ChatRequest] | type[TextRequest], request: Request) -> Response:
        answering = Answering(asyncio.get_running_loop())
        asked = read_body(kind, await self._body(request))
        adapter = self._adapter(asked.model)
        chat = isinstance(asked, ChatRequest)
        reply = Reply(asked.model, chat, asked.with_usage, tools=chat and bool(asked.functions_offered))
        self.engine.refuse_if_full()
        job = answering.job = await self._in_words(self._job, asked, adapter, answering)
        self.engine.submit(job)
        self.metrics.prompt_tokens.inc(len(job.ids))
        if asked.stream:
            # the first word decides of the status: what is wrong by then is an error as any other
            watch = asyncio.create_task(answering.watch(request.receive))
            try:
                first = await answering.next()
            except ApiError as error:
                self._ended(answering, asked.model, error)
                raise
            finally:
                watch.cancel()
            over = partial(self._ended, answering, asked.model, GONE)
            return EventStream(self._stream(reply, answering, first), answering, over)
        watch = asyncio.create_task(answering.watch(request.receive))
        try:
            text, end = "", None
            while end is None:
                found = await answering.next()
                if isinstance(found, Piece):
                    self._first(answering, text)
                    text += found.text
                else:
                    end = found
        except ApiError as error:
            self._ended(answering, asked.model, error)
            raise
        finally:
            watch.cancel()
            job.cancel()
        self._ended(answering, asked.model, end)
        return JSONResponse(reply.whole(text, end.reason, usage(len(job.ids), end.tokens)))

    async def _stream(self, reply: Reply, answering: Answering, found: Piece | End) -> AsyncIterator[bytes]:
        """The events of an answer that begins with ``found``."""
        yield reply.first()
        text = kept = ""
        try:
            while isinstance(found, Piece):
                self._first(answering, text)
                text += found.text
                kept += found.text
                if not reply.waits(text):
                    yield reply.piece(kept)
                    kept = ""
                found = await answering.next()
        except ApiError as error:
            self._ended(answering, reply.model, error)
            yield event(error.body)
            return
        self._ended(answering, reply.model, found)
        yield reply.last(kept, found.reason, usage(len(answering.job.ids), found.tokens))

    def _job(self, asked: ChatRequest | TextRequest, adapter: Adapter | None, answering: Answering) -> Job:
        """What the engine is to do; ApiError for what it cannot."""
        stop, served = asked.stops, self.served
        chat = isinstance(asked, ChatRequest)
        try:
            if chat:
                ids = served.wording.chat(told(asked.messages, asked.functions_offered))
            else:
                ids = served.wording.text(asked.text)
        except PressError as error:
            tools = "the tools stand in a system message: " if chat and asked.functions_offered else ""
            place = "messages" if chat else "prompt"
            raise ApiError(400, f"{tools}{error.message}", "invalid_value", place) from error
        room = served.context - len(ids)
        if room < (asked.most or 1):
            raise ApiError(
                400,
                f"the longest context here is {served.context} tokens: the prompt has {len(ids)}, the answer may have "
                f"{asked.most or 'at least 1'}. Shorten one of them.",
                "context_length_exceeded",
                "messages" if chat else "prompt",
            )
        matcher = self._matcher(asked) if chat else None
        chooser = Chooser(
            served.search, temperature=asked.temperature or 0.0, top_p=asked.top_p, seed=asked.seed, matcher=matcher
        )
        return Job(
            ids=ids,
            most=asked.most or room,
            adapter=adapter,
            chooser=chooser,
            stream=served.wording.stream(),
            stop=StopText(stop),
            deadline=answering.came + self.limits.seconds,
            emit=answering.emit,
            said=asked.messages[-1].words if chat else asked.text,
        )

    def _matcher(self, asked: ChatRequest) -> "llguidance.LLMatcher | None":
        """What the answer is held to: a schema, or the form of a call; ApiError for both, and for what cannot be."""
        wanted = asked.response_format.grammar if asked.response_format else None
        functions = asked.functions_offered
        if functions and wanted is not None:
            raise ApiError(
                400, "response_format: the answer may be a call of tools.", "invalid_value", "response_format"
            )
        try:
            if functions:
                return self.served.wording.by_grammar(grammar(functions, must=asked.must_call))
            return None if wanted is None else self.served.wording.by_schema(wanted)
        except PressError as error:
            raise ApiError(400, error.message, "invalid_schema", "tools" if functions else "response_format") from error

    def _first(self, answering: Answering, before: str) -> None:
        if not before:
            self.metrics.first_token.observe(time.monotonic() - answering.came)

    def _ended(self, answering: Answering, model: str, found: End | ApiError) -> None:
        """An answer's end, for the metrics and the log; only the first that is told of it."""
        if answering.ended:
            return
        answering.ended = True
        seconds, job = time.monotonic() - answering.came, answering.job
        reason = found.reason if isinstance(found, End) else found.code
        self.metrics.ended.labels(reason).inc()
        self.metrics.answer_tokens.inc(len(job.tokens))
        self.metrics.duration.observe(seconds)
        said = f" {job.said!r}" if self.limits.prompts else ""
        note(f"{model}: {len(job.ids)} + {len(job.tokens)} tokens, {seconds:.2f} s, {reason}{said}")

    def _adapter(self, model: str) -> Adapter | None:
        """Of a request's ``model``: the base's name, or base:adapter. ApiError for another."""
        base, colon, name = model.partition(":")
        adapter = self.adapters.get(name)
        if base != self.served.name or (colon and adapter is None):
            raise ApiError(404, f"no model {model!r} (there: {', '.join(self._names())}).", "model_not_found", "model")
        return adapter

    def _names(self) -> list[str]:
        return [self.served.name, *(f"{self.served.name}:{name}" for name in self.adapters.names)]

    async def _body(self, request: Request) -> bytes:
        """A request's JSON, in time and not too long; ApiError otherwise."""
        # a web page elsewhere can have a browser send other types without asking first, but not this one
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "expected Content-Type: application/json.", "unsupported_media_type")
        body = bytearray()
        try:
            async with asyncio.timeout(SECONDS_TO_SEND):
                async for part in request.stream():
                    body += part
                    if len(body) > self.limits.body:
                        raise ApiError(413, f"the body has more than {self.limits.body:,} bytes.", "body_too_large")
        except TimeoutError:
            raise ApiError(408, "the body did not come in time.", "timeout") from None
        return bytes(body)

    async def _in_words(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._words, call, *arguments)

    # --- models and adapters

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._names()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["model"]
        self._adapter(name)
        return JSONResponse(self._card(name))

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self.created, "owned_by": "olivepress"}

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"data": [self._shown(adapter) for adapter in self.adapters.all]})

    async def _add(self, request: Request) -> Response:
        asked = read_body(NewAdapter, await self._body(request))
        adapter = await self._in_words(self.adapters.add, asked.folder, asked.name)
        note(f"Adapter {adapter.name} added: {adapter.sha256}")
        return JSONResponse(self._shown(adapter), status_code=201)

    async def _remove(self, request: Request) -> Response:
        adapter = self.adapters.remove(request.path_params["name"])
        note(f"Adapter {adapter.name} taken away: {adapter.sha256}")
        return JSONResponse(self._shown(adapter))

    def _shown(self, adapter: Adapter) -> dict[str, Any]:
        return {
            "name": adapter.name,
            "model": f"{self.served.name}:{adapter.name}",
            "bytes": adapter.bytes,
            "sha256": adapter.sha256,
            "active": self.engine.active(adapter),
        }

    # --- for machines

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=PROMETHEUS)

    async def _health(self, request: Request) -> Response:
        if self.engine.alive:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the engine has ended\n", status_code=503)


def make_app(service: Service) -> Starlette:
    """The application; its engine runs as long as it does."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.engine.stop)

    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: "no such route", 405: "no such method here"}.get(status, "the request failed")
        return refusal(ApiError(status, f"{words}: {request.method} {request.url.path}.", "not_found"))

    async def failed(request: Request, error: Exception) -> Response:
        return refusal(ApiError(500, "the server made a mistake: see its log.", "internal_error"))

    handlers = {HTTPException: unknown, Exception: failed}
    return Starlette(routes=service.routes(), lifespan=lifespan, exception_handlers=handlers)


def refusal(error: ApiError) -> JSONResponse:
    """An error's answer."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)
