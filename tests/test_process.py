"""How commands are run, and what is said of one that fails."""

import sys

import pytest

from olivepress.core.errors import PressError
from olivepress.core.process import run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_is_captured_as_bytes_and_input_is_given(tmp_path):
    code = "import os, sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1]); print(os.getcwd(), file=sys.stderr)"
    done = run(python(code), cwd=tmp_path, stdin=b"\xff\x00abc")
    assert done.stdout == b"cba\x00\xff"
    assert done.stderr.decode().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('noise'); print('fatal: no such  branch', file=sys.stderr); sys.exit(3)", "fatal: no such branch"),
        ("print('ERROR: no remote'); print('more noise', file=sys.stderr); sys.exit(1)", "ERROR: no remote"),
        ("print('1\\n2\\n3\\n\\n4'); sys.exit(1)", "2 3 4"),
        ("sys.exit(7)", "exit status 7"),
    ],
)
def test_a_failure_carries_the_commands_last_words(code, words):
    with pytest.raises(PressError) as caught:
        run(python(f"import sys; {code}"), name="the command")
    assert caught.value.message == f"the command: {words}"
    assert run(python(f"import sys; {code}"), check=False).returncode


def test_the_words_are_cut_at_the_front():
    with pytest.raises(PressError) as caught:
        run(python("print('x' * 9000 + 'end'); raise SystemExit(1)"), name="it")
    assert len(caught.value.message) < 500 and caught.value.message.endswith("xend")


def test_show_leaves_output_where_this_process_has_it(capfd):
    done = run(python("print('shown')"), show=True)
    assert done.stdout is None
    assert capfd.readouterr().out == "shown\n"


def test_a_program_that_is_not_installed_is_named():
    with pytest.raises(PressError, match=r"^no-such-program is missing: install it"):
        run(["no-such-program", "--version"])


def test_a_missing_program_of_a_known_package_says_which(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PressError, match=r"ssh-keygen is missing: install the package openssh-client \(apt-get"):
        run(["ssh-keygen", "-Y", "sign"])
