"""The one exception that means "the input is wrong", never "the program is wrong"."""

import re

import click


class PressError(click.ClickException):
    """Bad input. The message says where, what was found, what was expected and what to do.

    Click prints it as ``Error: <message>`` and exits with status 1, without a traceback.
    """


def first_sentence(error: Exception) -> str:
    """The first sentence of an upstream message, which may go on for a page."""
    sentence = re.split(r"(?<=\.)\s|(?<!:)\n", str(error).strip())[0]
    return " ".join(sentence.split())[:300] or type(error).__name__
