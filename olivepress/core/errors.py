"""The one exception that means "the input is wrong", never "the program is wrong"."""

import re

import click


def shown(text: str) -> str:
    """``text`` as a terminal can be given it: what it would obey (escape sequences, a change of direction) or not draw
    is written as Python writes it. Line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


class PressError(click.ClickException):
    """Bad input. The message says where, what was found, what was expected and what to do.

    Click prints it as ``Error: <message>`` and exits with status 1, without a traceback. Names and values of others
    stand in it: nothing of them reaches a terminal as more than text.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


def first_sentence(error: Exception) -> str:
    """The first sentence of an upstream message, which may go on for a page."""
    sentence = re.split(r"(?<=\.)\s|(?<!:)\n", str(error).strip())[0]
    return " ".join(sentence.split())[:300] or type(error).__name__
