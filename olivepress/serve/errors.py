"""What a client is told when a request is refused, in the form that OpenAI's clients read."""

from collections.abc import Mapping

from olivepress.core.errors import shown

LONGEST = 500  # characters of a message: it may repeat what was sent


class ApiError(Exception):
    """A refusal: HTTP ``status``, ``message``, OpenAI's ``code``, the parameter ``param`` that it is about, headers."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        text = shown(message)
        self.status = status
        self.message = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
        self.code = code
        self.param = None if param is None else shown(param)[:LONGEST]
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The JSON object of the answer."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
