"""From conversations to token ids, and which of them the assistant writes.

A row is rendered whole, and once more up to each answer as an answer is asked for: the second has to begin the first,
as text and as tokens, so that a model is trained on what it will be asked with. An answer reaches to the end-of-turn
token that the template writes; where it writes none, the tokenizer's end token follows the last answer.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import control, limits, report
from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow, check_characters
from olivepress.core.limits import TooMuch, apart, bounded, each_apart, too_large
from olivepress.core.prepared import Preference, Prepared, spans_of
from olivepress.core.template import check_template, on_day, render_prompt, unescape
from olivepress.data.files import read_file
from olivepress.data.formats import Message, Pair, Reader, Row
from olivepress.data.problems import Problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 256
CHARACTERS = 2**20
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
# How Python writes what is no text, a generator or a function say, that a template writes without using it.
OBJECT = re.compile(r"<\w.{0,200}? at 0x[0-9a-f]+>")
# Two days that differ in every part of a date.
DAYS = ("2001-02-03", "2019-11-12")
# Seconds that template and tokenizer may take for a batch, which takes about one.
BATCH_SECONDS = 60
SLICE = 16  # rows whose texts are split into tokens together
# What other models' templates, and hand-made ones, write around turns: a row that begins so was rendered already.
RENDERED = re.compile(r"\s*(<\|im_start\|>|<\|start_header_id\|>|<\|user\|>|<start_of_turn>|<s>\s*\[INST\]|\[INST\]|"
                      r"### ?(Instruction|Human|User|Question):?\s|<\|begin_of_text\|>|<\|endoftext\|>|"
                      r"(Human|USER|User|Q): .*\n+(Assistant|ASSISTANT|A):)", re.S)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One answer in a rendered row: the text before it as it is rendered to ask for it, and where it ends.

    ``end`` is behind its end-of-turn token if ``closed``, else behind its text.
    """

    prompt: str
    end: int
    closed: bool


@dataclass(frozen=True)
class Rendered:
    text: str
    turns: list[Turn]
    mask: list[tuple[int, int]] | None = None  # characters in the template's own generation blocks


@dataclass(frozen=True)
class Part:
    """A conversation of a row, and where the row stands."""

    where: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Encoded:
    """What a process made of parts, and what it counted (`Encoder.counts`)."""

    found: list[Prepared | BadRow]
    counts: dict[str, int]


@dataclass
class Encoder:
    """Encodes rows by a tokenizer and a template ("chat", or a text template); ``date`` is what it gets as today.

    PressError if the template cannot be used at all. What was done to rows beyond that is counted in ``counts``, by
    what there is to say about it.
    """

    tokenizer: "PreTrainedTokenizerBase"
    template: str = "chat"
    date: str | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.template = unescape(self.template)
        check_template(self.template)
        self._chat: str | None = None
        self._other_days: list[str] = []  # the template as it would be on other days, where it can know the day
        tokens = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        tokens |= set(self.tokenizer.all_special_tokens)
        if self.template == "chat":
            self._chat = _chat_template(self.tokenizer)
            if self.date is not None:
                self._chat = on_day(self._chat, self.date)
            elif "strftime_now" in self._chat:
                self._other_days = [on_day(self._chat, day) for day in DAYS]
            self._generates = bool(GENERATION.search(self._chat))
        else:
            added = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
            tokens |= {token for token in added if token in self.template}
        self.control = control.pattern_of(tokens)

    def encode(self, rows: Sequence[Row | Pair]) -> list[Prepared | Preference | BadRow]:
        """Each row as tokens, or what is wrong with it, in order."""
        parts: list[Part] = []
        for row in rows:
            talks = (
                [row.messages] if isinstance(row, Row) else [[*row.prompt, *end] for end in (row.chosen, row.rejected)]
            )
            parts += [Part(row.where, talk, row.tools) for talk in talks]
        encoded = iter(self._encode_apart(parts))
        return [next(encoded) if isinstance(row, Row) else _preference(next(encoded), next(encoded)) for row in rows]

    def prompt(self, messages: list[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """The tokens with which the model is asked to go on after ``messages``."""
        return apart(lambda: self._ids([self._render(messages, tools, ask=True)])[0])

    # --- in a process of its own

    def _encode_apart(self, parts: list[Part]) -> list[Prepared | BadRow]:
        """Each part as tokens. PressError names the row with which the template, or the tokenizer, does not end.

        Both are the model's: one operation on huge numbers, or one regular expression, cannot be interrupted, and may
        wait for a row that asks for it.
        """
        doing, place = "chat template", 0
        try:
            for said in each_apart(lambda: self._encode(parts), whole=BATCH_SECONDS):
                if isinstance(said, Encoded):
                    self.counts = said.counts
                    return said.found
                doing, place = said
        except TooMuch as error:
            if doing == "tokenizer" and len(parts) > 1:
                for part in parts[place : place + SLICE]:
                    self._encode_apart([part])
            advice = "Fix it, or write a text.template" if doing == "chat template" else "Take the row out"
            raise PressError(f"{parts[place].where}: the model's {doing} {error}. {advice}.") from error
        return []

    def _encode(self, parts: list[Part]) -> Iterator[tuple[str, int] | Encoded]:
        """What is done next, and the number of the part with which it begins; at last what came out."""
        rendered: list[Rendered | BadRow] = []
        with bounded(limits.MEMORY):
            for place, part in enumerate(parts):
                yield "chat template", place
                try:
                    with _naming(part):
                        rendered.append(self._rendered(part.messages, part.tools))
                except BadRow as error:
                    rendered.append(error)
        found: list[Prepared | BadRow] = []
        for place in range(0, len(parts), SLICE):
            yield "tokenizer", place
            some = rendered[place : place + SLICE]
            texts: dict[str, None] = {}
            for one in some:
                if isinstance(one, Rendered):
                    texts |= dict.fromkeys([one.text, *(turn.prompt for turn in one.turns)])
            known = dict(zip(texts, self._encodings(list(texts)), strict=True))
            for one in some:
                try:
                    if isinstance(one, BadRow):
                        raise one
                    found.append(self._prepared(one, known))
                except BadRow as error:
                    found.append(error)
        yield Encoded(found, self.counts)

    # --- rendering

    def _rendered(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> Rendered:
        self._check_contents(messages, tools)
        if self.template != "chat":
            self._count_left_out(messages, tools, "")
            return self._by_text(messages)
        if self._generates:
            return self._by_blocks(messages, tools)
        text = self._render(messages, tools)
        self._check_said(text, messages, tools)
        answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        turns = []
        for place in answers:
            last = place == answers[-1]
            prompt = self._render(messages[:place], tools, ask=True)
            if not text.startswith(prompt):
                if last:
                    raise BadRow(self._unlike(text, prompt))
                self._count("earlier answers are not trained on: the template renders them otherwise later")
                continue
            if messages[place].get("weight") != 0:
                upto = text if last else self._render(messages[: place + 1], tools)
                limit = len(upto) if text.startswith(upto) else len(text)
                turns.append(self._turn(text, prompt, messages[place], limit))
        return Rendered(text, turns)

    def _turn(self, text: str, prompt: str, message: Message, limit: int) -> Turn:
        """The answer ``message``, which begins behind ``prompt`` and ends at ``limit`` at the latest."""
        start = len(prompt)
        calls = message.get("tool_calls")
        lost = [call for call in calls or [] if text.find(call["function"]["name"], start, limit) < 0]
        if lost:
            raise BadRow(
                f"the call of {lost[0]['function']['name']!r} is not in what the model's chat template makes of the "
                "row: it takes no tool calls. Give rows without them."
            )
        if calls:  # the last token that ends something, behind all calls
            ends = [match.end() for match in self.control.finditer(text, start, limit)] if self.control else []
            return Turn(prompt, ends[-1] if ends else limit, bool(ends))
        said = message["content"].rpartition("</think>")[2].strip()
        place = text.find(said, start, limit)
        if place < 0:
            raise BadRow("the model's chat template changes what the assistant says. Write a text.template.")
        behind = place + len(said)
        closer = self.control.search(text, behind, limit) if self.control else None
        return Turn(prompt, closer.end() if closer else behind, bool(closer))

    def _by_blocks(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> Rendered:
        """By the template's own {% generation %} blocks."""
        text = self._render(messages, tools)
        self._check_said(text, messages, tools)
        prompt = self._render(messages[:-1], tools, ask=True)
        if not text.startswith(prompt):
            raise BadRow(self._unlike(text, prompt))
        blocks = self._blocks(messages, tools)
        answers = [message for message in messages if message["role"] == "assistant"]
        held = [text[start:end] for start, end in blocks]
        if len(held) > len(answers) or any(
            answer["content"].rpartition("</think>")[2].strip() not in block
            for answer, block in zip(reversed(answers), reversed(held), strict=False)
        ):
            raise BadRow(
                "the template's {% generation %} blocks hold other words than the assistant's: a model would be "
                "trained to say those. Write a text.template."
            )
        return Rendered(text, [Turn(prompt, len(text), True)], blocks)

    def _blocks(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> list[tuple[int, int]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        with template_errors():
            _, spans = render_jinja_template(
                [_plain(messages)],
                tools=tools,
                chat_template=self._chat,
                return_assistant_tokens_mask=True,
                **self.tokenizer.special_tokens_map,
            )
        return spans[0]

    def _by_text(self, messages: list[Message]) -> Rendered:
        """As runtime/prompt.py renders it: earlier turns each as a row, a line break after it."""
        if messages[0]["role"] == "system":
            raise BadRow("a system message, and the text template has no place for one. Put it into the prompt.")
        if [message["role"] for message in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise BadRow("messages: a text template takes the user's and the assistant's words in turn.")
        text, turns = "", []
        tail = self.template.partition("{response}")[2].format()
        for asked, answered in zip(messages[::2], messages[1::2], strict=True):
            if text and not text.endswith("\n"):
                text += "\n"
            prompt = text + render_prompt(self.template, asked["content"])
            text = prompt + answered["content"] + tail
            closer = self.control.search(text, len(prompt) + len(answered["content"])) if self.control else None
            if answered.get("weight") != 0:
                turns.append(Turn(prompt, closer.end() if closer else len(text), bool(closer)))
        return Rendered(text, turns)

    def _render(self, messages: list[Message], tools: list[dict[str, Any]] | None, ask: bool = False) -> str:
        if self.template != "chat":
            earlier = self._by_text(messages[:-1]).text if len(messages) > 1 else ""
            if earlier and not earlier.endswith("\n"):
                earlier += "\n"
            return earlier + render_prompt(self.template, messages[-1]["content"])
        drawn = random.getstate()
        text = self._by_template(messages, tools, ask, self._chat)
        if random.getstate() != drawn:
            raise PressError(
                "the model's chat template draws lots: the same params would give other rows each time. Fix it, or "
                "write a text.template."
            )
        if (found := OBJECT.search(text)) and not any(found[0] in said for said in _texts([messages, tools])):
            raise PressError(
                f"the model's chat template writes {found[0]!r}, an object of Python's and its place in memory, which "
                "is another each time. Fix it, or write a text.template."
            )
        if any(self._by_template(messages, tools, ask, other) != text for other in self._other_days):
            raise PressError(
                "the model's chat template writes today's date: the same params would give other rows tomorrow. "
                'Give the date that it shall write: prepare.date: "2026-01-31", say.'
            )
        check_characters(text, "what the model's chat template makes of the row")
        said = sum(len(str(message)) for message in messages) + len(str(tools))
        if len(text) > 16 * said + 1_000_000:
            raise PressError(f"the model's chat template writes {len(text):,} characters for a row of {said:,}.")
        return text

    def _by_template(
        self, messages: list[Message], tools: list[dict[str, Any]] | None, ask: bool, template: str | None
    ) -> str:
        with template_errors():
            return self.tokenizer.apply_chat_template(
                _plain(messages),
                tools=tools,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=ask,
            )

    # --- checks

    def _check_contents(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> None:
        for place, message in enumerate(messages):
            for text in _texts(message):
                check_characters(text, _who(messages, place))
                token = control.find(self.control, text)
                if token:
                    raise BadRow(
                        f"{_who(messages, place)} has {token!r}, a control token of the model. Take it out; a row "
                        "that was rendered by a template already is given as plain text."
                    )
            if place == 0 or message["role"] != "system":
                match = RENDERED.match(message["content"])
                if match:
                    marks = f"{match[3]}: … {match[4]}:" if match[3] else " ".join(match[1].split())
                    self._count(f"rows look rendered by a template already ({marks!r})")
        for text in _texts(tools):
            check_characters(text, "tools")
            if token := control.find(self.control, text):
                raise BadRow(f"tools: has {token!r}, a control token of the model. Take it out.")

    def _check_said(self, text: str, messages: list[Message], tools: list[dict[str, Any]] | None) -> None:
        """BadRow if the template leaves out what a message says."""
        self._count_left_out(messages, tools, text)
        for place, message in enumerate(messages):
            said = message["content"].rpartition("</think>")[2].strip()
            if said not in text and _escaped(said) not in text:
                raise BadRow(
                    f"{_who(messages, place)} is not in what the model's chat template makes of the row. Give rows "
                    "without it, or a text.template."
                )

    def _count_left_out(self, messages: list[Message], tools: list[dict[str, Any]] | None, text: str) -> None:
        """Count rows of which the template leaves out what stands beside the messages' contents."""
        functions = [tool["function"] if isinstance(tool.get("function"), dict) else tool for tool in tools or []]
        if any(str(function.get("name", "")) not in text for function in functions) or (tools and not text):
            self._count("rows have tools that the template does not write: the model will not know of them")
        thoughts = [messages[-1].get(key, "").strip() for key in ("reasoning_content", "thinking")]
        if any(thought and thought not in text for thought in thoughts):
            self._count("rows have thoughts that the template does not write: they are not trained on")
        names = [message.get("name", "") for message in messages if message["role"] != "tool"]
        if any(name and name not in text for name in names):
            self._count("rows have names of who speaks that the template does not write: they are not trained on")

    def _unlike(self, text: str, prompt: str) -> str:
        same = next(
            (n for n, (a, b) in enumerate(zip(text, prompt, strict=False)) if a != b), min(len(text), len(prompt))
        )
        asked, trained = prompt[same:][:40], text[same:][:40]
        return (
            f"the model's chat template asks for an answer with {asked!r} where the row itself has {trained!r}: it "
            "would be trained on another prompt than it is asked with. If that opens a part for reasoning, let the "
            "answers begin with it (<think>…</think>); else write a text.template."
        )

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- tokens

    def _encodings(self, texts: list[str]) -> list[Any]:
        if not texts:
            return []
        batch = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        if self.tokenizer.is_fast:
            return list(batch.encodings)
        return [_Slow(self.tokenizer, text, ids) for text, ids in zip(texts, batch["input_ids"], strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._encodings(texts)]

    def _prepared(self, row: Rendered, known: dict[str, Any]) -> Prepared:
        whole = known[row.text]
        prompts = [known[turn.prompt].ids for turn in row.turns]
        if any(whole.ids[: len(prompt)] != prompt for prompt in prompts):
            ids, answers = self._apart(row, whole.ids)
        elif row.mask is not None:
            ids, answers = whole.ids, self._masked(row, whole)
        else:
            ids = whole.ids
            answers = [
                (len(prompt), _token_end(whole, len(prompt), turn.end))
                for prompt, turn in zip(prompts, row.turns, strict=True)
            ]
        ids = ids[: answers[-1][1]]
        if not row.turns[-1].closed:
            ids, answers = self._ended(ids, answers)
        if any(start >= end for start, end in answers):
            raise BadRow("an answer without a token: the tokenizer makes nothing of it.")
        return Prepared(ids, answers)

    def _masked(self, row: Rendered, whole: Any) -> list[tuple[int, int]]:
        """The template's blocks as tokens; a control token right behind a block ends the turn, and belongs to it."""
        mask = [False] * len(whole.ids)
        for start, end in row.mask or []:
            first = next((t for c in range(start, end) if (t := whole.char_to_token(c)) is not None), None)
            if first is not None:
                stop = _token_end(whole, first, end)
                mask[first:stop] = [True] * (stop - first)
                special = set(self.tokenizer.all_special_ids)
                if stop < len(mask) and whole.ids[stop] in special and whole.ids[stop - 1] not in special:
                    mask[stop] = True
        answers = list(spans_of(mask))
        if not answers:
            raise BadRow("the template's {% generation %} blocks hold no answer of this row.")
        return answers

    def _apart(self, row: Rendered, joint: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of prompts and answers encoded apart, as they are when an answer is asked for and written.

        For rows where the last characters of a prompt and the first of an answer make a token together. BadRow if the
        parts do not say the same then: some tokenizers begin every text with a blank.
        """
        if row.mask is not None:
            raise BadRow(
                "the tokenizer joins the end of the prompt with the answer's beginning. Let the answer begin with a "
                "letter."
            )
        ids: list[int] = []
        answers = []
        for number, turn in enumerate(row.turns):
            start = len(turn.prompt)
            begin = row.turns[number - 1].end if number else 0
            ids += self._ids([row.text[begin:start]])[0]
            answer = self._ids([row.text[start : turn.end]])[0]
            answers.append((len(ids), len(ids) + len(answer)))
            ids += answer
        texts = [self._decode(ids), self._decode(joint)]
        if not texts[1].startswith(texts[0]):
            raise BadRow(
                f"the tokenizer joins the end of the prompt ({row.turns[-1].prompt[-12:]!r}) with the beginning of the "
                "answer: as a prompt alone it has other tokens. Let a text.template's {response} follow its prompt "
                "without a blank before it, and the answer begin with a letter."
            )
        self._count("rows have prompt and answer encoded apart, as they are in use: joined they would share a token")
        return ids, answers

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _ended(self, ids: list[int], answers: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """With the tokenizer's end token behind the last answer."""
        end = self.tokenizer.eos_token_id
        if end is None:
            raise PressError(
                "the template writes no token that ends an answer, and the tokenizer names none (eos_token): a model "
                "trained so never stops. Put one into text.template, behind {response}."
            )
        self._count(f"answers are ended by {self.tokenizer.eos_token!r}, which the template does not write")
        return [*ids, end], [*answers[:-1], (answers[-1][0], answers[-1][1] + 1)]


@contextmanager
def _naming(part: Part) -> Iterator[None]:
    """Within the block, an error that ends the stage says with which row it came."""
    try:
        yield
    except PressError as error:
        raise PressError(f"{part.where}: {error.message}") from error


@contextmanager
def template_errors() -> Iterator[None]:
    """Within the block a template's errors are BadRow, or PressError where no row could be rendered."""
    import jinja2

    try:
        yield
    except MemoryError as error:
        raise PressError(
            f"the model's chat template {too_large(limits.MEMORY)}. Fix it, or write a text.template."
        ) from error
    except jinja2.TemplateSyntaxError as error:
        raise PressError(
            f"the model's chat template, line {error.lineno}: {error.message}. Fix it, or write a text.template."
        ) from error
    except Exception as error:  # whatever a template can do to a row: undefined names, sums of texts and numbers, …
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadRow(f"the model's chat template cannot render the row: {said}") from error


@dataclass(frozen=True)
class _Slow:
    """What an Encoding of the tokenizers library answers, for a tokenizer written in Python."""

    tokenizer: Any
    text: str
    ids: list[int]

    def char_to_token(self, place: int) -> int | None:
        return max(len(self.tokenizer(self.text[: place + 1], add_special_tokens=False)["input_ids"]) - 1, 0)


def _token_end(encoding: Any, first: int, end: int) -> int:
    """The end of the token that holds the last of the characters before ``end``, from the token ``first`` on."""
    for place in range(end - 1, -1, -1):
        token = encoding.char_to_token(place)
        if token is not None:
            return max(token + 1, first)
    return first


def _chat_template(tokenizer: "PreTrainedTokenizerBase") -> str:
    if not tokenizer.chat_template:
        raise PressError("text.template: the model's tokenizer has no chat template. Write a text template instead.")
    try:
        found = tokenizer.get_chat_template()
    except Exception as error:  # several, by names, and none of them the default
        said = " ".join(str(error).split())[:100]
        raise PressError(
            f"text.template: the model's chat template: {said} … Write a text template instead."
        ) from error
    if not isinstance(found, str):
        raise PressError(
            f"text.template: the model's chat template is a {type(found).__name__}, expected text. Write a text "
            "template instead."
        )
    return found


def _plain(messages: list[Message]) -> list[Message]:
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages]


def _texts(value: Any) -> Iterator[str]:
    """All texts in a message or in tools, at any depth, names of fields among them: templates write these, too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _escaped(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)[1:-1]


def _who(messages: list[Message], place: int) -> str:
    return f"messages[{place}] ({messages[place]['role']})"


def _preference(chosen: Prepared | BadRow, rejected: Prepared | BadRow) -> Preference | BadRow:
    """Two encoded answers to one prompt, the last answer of each alone."""
    for name, one in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(one, BadRow):
            return BadRow(f"{name}: {one}")
    start = chosen.answers[-1][0]
    if rejected.answers[-1][0] != start or chosen.input_ids[:start] != rejected.input_ids[:start]:
        return BadRow("the template renders the prompt of 'chosen' and of 'rejected' differently.")
    return Preference(*(Prepared(one.input_ids, one.answers[-1:]) for one in (chosen, rejected)))


def encode_rows(
    path: Path,
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    *,
    max_rows: int | None = None,
    date: str | None = None,
) -> list[Prepared]:
    """The rows of one file of questions and answers (any format of ours but preferences), from the first.

    PressError names what is wrong with them.
    """
    encoder, reader, problems = Encoder(tokenizer, template, date), Reader(), Problems(path.as_posix())
    found: list[Prepared] = []
    for rows in batches(islice(_read(path, reader, problems), max_rows)):
        for row, one in zip(rows, encoder.encode(rows), strict=True):
            if isinstance(one, Prepared):
                found.append(one)
            else:
                problems.add(row.where, one if isinstance(one, BadRow) else "a preference, expected an answer.")
    problems.raise_any()
    if not found:
        raise PressError(f"{path}: the data set is empty. Expected rows.")
    for what, count in encoder.counts.items():
        report.note(f"{path}: {count:,} {what}.")
    return found


def batches(rows: Iterable[Row | Pair]) -> Iterator[list[Row | Pair]]:
    """The rows in lists of BATCH, and of about CHARACTERS at most: a token takes a hundred bytes while it is made."""
    batch: list[Row | Pair] = []
    size = 0
    for row in rows:
        batch.append(row)
        messages = row.messages if isinstance(row, Row) else [*row.prompt, *row.chosen, *row.rejected]
        size += sum(len(message["content"]) for message in messages)
        if len(batch) == BATCH or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(path: Path, reader: Reader, problems: Problems) -> Iterable[Row | Pair]:
    for where, value in read_file(path):
        try:
            if isinstance(value, BadRow):
                raise value
            yield reader.read(where, value)
        except BadRow as error:
            problems.add(where, error)
