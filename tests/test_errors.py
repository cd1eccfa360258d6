"""What an error message lets through to a terminal."""

import pickle

import pytest

from olivepress.core import report
from olivepress.core.errors import PressError, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config.json: x is 5\n\tsecond line", None),
        ("Größe “x” 你好 😀", None),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\rb\x7f\x9b31m", r"a\rb\x7f\x9b31m"),
        ("user\u202etxt.exe\u200b", r"user\u202etxt.exe\u200b"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, expected, capsys):
    expected = text if expected is None else expected
    error = PressError(text)
    assert error.message == error.format_message() == shown(text) == expected
    assert pickle.loads(pickle.dumps(error)).message == expected
    report.note(text)
    assert capsys.readouterr().err == f"{expected}\n"
