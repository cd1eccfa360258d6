"""What a client may ask, by OpenAI's names. What is not listed here is refused, never passed over."""

import json
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from olivepress.serve.errors import ApiError

Asked = TypeVar("Asked", bound=BaseModel)
MOST_MESSAGES = 2048
MOST_TOOLS = 128
NAME = r"^[a-zA-Z0-9_-]{1,64}$"  # of a schema or a function
UNKNOWN = "extra_forbidden"  # pydantic's name for it
NOT_HERE = "not_here"


def only(*values: Any) -> AfterValidator:
    """Takes these values of a parameter alone: those that change nothing."""

    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{NOT_HERE}: only {' or '.join(map(repr, values))} here")
        return value

    return AfterValidator(check)


def refused(why: str) -> BeforeValidator:
    """Takes null and an empty list or object alone."""

    def check(value: Any) -> Any:
        if value not in (None, [], {}):
            raise ValueError(f"{NOT_HERE}: {why}")

    return BeforeValidator(check)


class Form(BaseModel):
    """Exact types, and no other names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Form):
    """``include_usage``: a last chunk with the numbers of tokens."""

    include_usage: bool | None = None


class Options(Form):
    """What both kinds of requests may have. A null is as good as nothing."""

    model: str = Field(max_length=512)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    user: str | None = None  # who asks: OpenAI's own records, of which there are none here
    n: Annotated[int | None, only(1, None)] = None
    frequency_penalty: Annotated[float | None, only(0, None)] = None
    presence_penalty: Annotated[float | None, only(0, None)] = None
    logit_bias: Annotated[None, refused("no token's probability can be changed")] = None

    @property
    def most(self) -> int | None:
        """The longest answer, in tokens; None: as long as there is room."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer; ApiError for more than OpenAI's four, or an empty one."""
        found = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(found) > 4 or not all(0 < len(text) <= 1000 for text in found):
            raise ApiError(400, "stop: expected up to 4 texts of 1 to 1000 characters.", "invalid_value", "stop")
        return found

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens; ApiError for stream_options without a stream."""
        if self.stream_options and not self.stream:
            raise ApiError(400, "stream_options: only with stream.", "invalid_value", "stream_options")
        return bool(self.stream_options and self.stream_options.include_usage)


class TextPart(Form):
    """A text, as part of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Form):
    """The function of a call: its name, and its arguments as JSON in a text."""

    name: str
    arguments: str

    @property
    def values(self) -> dict[str, Any]:
        """The arguments; ApiError for what is not a JSON object."""
        try:
            found = json.loads(self.arguments, parse_constant=_no_number)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ApiError(400, "messages: the arguments of a call are not a JSON object.", "invalid_value", "messages")
        return found


class Call(Form):
    """A call that the model made before."""

    id: str = Field(min_length=1, max_length=512)
    type: Literal["function"]
    function: CalledFunction


class Message(Form):
    """One thing said. "developer" is OpenAI's newer word for "system"; "tool" says what a call returned."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[Call] | None = Field(None, max_length=MOST_TOOLS)
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content: has to be there")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls: are the assistant's")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id: goes with the role tool, and the role with it")
        return self

    @property
    def words(self) -> str:
        """What it says; nothing, where it only calls."""
        content = self.content or ""
        return content if isinstance(content, str) else "".join(part.text for part in content)


class Function(Form):
    """A function that the model may call; ``parameters`` is a JSON schema, which is followed ``strict`` or not."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def description_for_model(self) -> dict[str, Any]:
        """What the model reads."""
        return self.model_dump(include={"name", "description", "parameters"}, exclude_none=True)


class Tool(Form):
    """A tool: a function, the one kind that there is here."""

    type: Literal["function"]
    function: Function


class ChosenName(Form):
    """Which function is chosen."""

    name: str


class Chosen(Form):
    """The one function that has to be called."""

    type: Literal["function"]
    function: ChosenName


class JsonSchema(Form):
    """A schema and its name; it is followed whether ``strict`` or not."""

    name: str = Field(pattern=NAME)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Form):
    """Text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def grammar(self) -> dict[str, Any] | None:
        """The schema that the answer is held to; None for text. ApiError for a schema that is missing or too many."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ApiError(400, "response_format: json_schema goes with that type.", "invalid_value", "response_format")
        if self.type == "text":
            return None
        return self.json_schema.json_schema if self.json_schema else {"type": "object"}


class ChatRequest(Options):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: ResponseFormat | None = None
    logprobs: Annotated[bool | None, only(False, None)] = None
    tools: list[Tool] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None  # allowed, not asked for: an answer has one call
    functions: Annotated[None, refused("OpenAI has replaced it: use tools")] = None
    function_call: Annotated[None, refused("OpenAI has replaced it: use tool_choice")] = None

    @property
    def functions_offered(self) -> list[Function]:
        """Those that the answer may call; ApiError for a choice of none that is there, and for a name twice."""
        every = {tool.function.name: tool.function for tool in self.tools or ()}
        if len(every) != len(self.tools or ()):
            raise ApiError(400, "tools: two functions have one name.", "invalid_value", "tools")
        if isinstance(self.tool_choice, Chosen):
            name = self.tool_choice.function.name
            if name not in every:
                raise ApiError(400, f"tool_choice: no function {name!r} in tools.", "invalid_value", "tool_choice")
            return [every[name]]
        if self.must_call and not every:
            raise ApiError(400, "tool_choice: there are no tools.", "invalid_value", "tool_choice")
        return [] if self.tool_choice == "none" else list(every.values())

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, Chosen)

    @property
    def most(self) -> int | None:
        """By either name; ApiError for both with different values."""
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ApiError(400, "max_tokens: is another than max_completion_tokens.", "invalid_value", "max_tokens")
        return self.max_completion_tokens or self.max_tokens


class TextRequest(Options):
    """POST /v1/completions: a text goes on, without a template."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    echo: Annotated[bool | None, only(False, None)] = None
    best_of: Annotated[int | None, only(1, None)] = None
    logprobs: Annotated[None, refused("no probabilities are given out")] = None
    suffix: Annotated[None, refused("a text can only be gone on with")] = None

    @property
    def text(self) -> str:
        """The one prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class NewAdapter(Form):
    """POST /admin/adapters: the adapter ``name`` of the release in ``folder``."""

    name: str = Field(max_length=255)
    folder: str = Field(max_length=1000)


def read_body(kind: type[Asked], body: bytes) -> Asked:
    """The request in a JSON body; ApiError 400 names the first thing that is wrong with it."""
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        words = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is not JSON: {words}.", "invalid_json") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body is not a JSON object.", "invalid_json")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise _refusal(error) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply.", "invalid_json") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON's")


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # without the names of the types that were tried, where several may be
    parts = (str(part) for part in first["loc"])
    path = ".".join(part for part in parts if "[" not in part and not part[:1].isupper())
    words = first["msg"].removeprefix("Value error, ")
    if first["type"] == UNKNOWN:
        return ApiError(
            400, f"{path}: this server does not know it, and passes over nothing.", "unknown_parameter", path
        )
    if words.startswith(NOT_HERE):
        return ApiError(400, f"{path}{words.removeprefix(NOT_HERE)}.", "unsupported_parameter", path)
    if first["type"] == "missing":
        return ApiError(400, f"{path}: has to be there.", "missing_required_parameter", path)
    return ApiError(400, f"{path}: {words}.", "invalid_value", path)
