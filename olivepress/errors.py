"""The one exception that means "the input is wrong", never "the program is wrong"."""

import click


class PressError(click.ClickException):
    """Bad input. The message says where, what was found, what was expected and what to do.

    Click prints it as ``Error: <message>`` and exits with status 1, without a traceback.
    """
