"""The text that a model sees for a row: its own chat template, or a text template of the params."""

import re
import string
from datetime import date as Date

from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow, check_characters

# What Python's strftime knows
CODES = ("%-d", "%-m", "%-j", *(f"%{code}" for code in "aAbBcdDeFgGhHIjmMnpSuUwWVxXyYzZ"))


def check_template(template: str) -> None:
    """PressError unless ``template`` is "chat" or a text with {prompt}, then {response}, and no other field."""
    if template == "chat":
        return
    try:
        check_characters(template, "text.template")
    except BadRow as error:
        raise PressError(str(error)) from error
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise PressError(f"text.template: {template!r}: {error}. Write a literal brace twice.") from error
    fields = [name for _, name, _, _ in parts]
    unknown = [name for name in fields if name not in ("prompt", "response")]
    if unknown:
        raise PressError(f"text.template: unknown field {{{unknown[0]}}}. The rows have {{prompt}} and {{response}}.")
    if fields != ["prompt", "response"]:
        raise PressError(
            f"text.template: found the fields {fields}, expected {{prompt}} and then {{response}}, once each "
            'or the word "chat" for the model\'s own chat template.'
        )
    for _, name, spec, conversion in parts:
        if spec or conversion:
            raise PressError(f"text.template: a format or conversion of {{{name}}}. Write {{{name}}} alone.")


def unescape(template: str) -> str:
    r"""Turn the two characters ``\n`` of a template on a command line into a line break."""
    return template.replace("\\n", "\n")


def render_prompt(template: str, prompt: str) -> str:
    """The part of a text template before the response, with the prompt filled in."""
    return template.partition("{response}")[0].format(prompt=prompt)


def on_day(template: str, day: str) -> str:
    """The template with a ``strftime_now`` of its own that always says ``day``: transformers passes it no function."""
    date = Date.fromisoformat(day)
    # a loop, which compiles in a sixth of the time that as many filters in a row take
    texts = ", ".join(f"({code!r}, {date.strftime(code)!r})" for code in CODES)
    body = (
        f"{{% set said = namespace(text=format) %}}{{% for code, text in [{texts}] %}}"
        "{% set said.text = said.text | replace(code, text) %}{% endfor %}{{ said.text }}"
    )
    # what prints nothing, behind the macro: a line break after a block would be taken off the template
    return f"{{% macro strftime_now(format) %}}{body}{{% endmacro %}}{{{{ '' }}}}{template}"


def with_date(template: str, day: str) -> str:
    """The template with ``day`` in the place of every call of ``strftime_now`` with a text, for runtimes whose own
    function of that name takes today's date and cannot be replaced."""
    date = Date.fromisoformat(day)
    return re.sub(r"strftime_now\(\s*(['\"])([^'\"]*)\1\s*\)", lambda call: repr(date.strftime(call[2])), template)
