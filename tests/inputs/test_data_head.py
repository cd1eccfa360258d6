"""`olivepress data head`: the first rows of any data, as they are and as a model sees them, the trained part marked."""

import contextlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from olivepress.tools.data_head import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def head(tmp_path):
    def head(*arguments: str, colour: bool = False):
        with contextlib.chdir(tmp_path):
            return CliRunner().invoke(main, list(map(str, arguments)), color=colour)

    return head


@pytest.fixture
def path(tmp_path):
    rows = [{"prompt": f"ask {n}", "response": f"say {n}"} for n in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_as_they_are(head, path):
    done = head(path, "--rows", 2)
    rows = [f"{path}:{n + 1}\nprompt:   ask {n}\nresponse: say {n}\n" for n in range(2)]
    assert done.stdout == "\n".join([*rows, f"2 of 9 rows of {path}\n"])
    assert "prompt-response (found by its fields)" in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "<|user|>\nask 0<|end|>\n<|assistant|>\n⟦say 0<|end|>⟧"),
        (("--template", "Q: {prompt}\\nA:{response}"), "Q: ask 0\nA:⟦say 0<|endoftext|>⟧"),
    ],
)
def test_rows_as_a_model_sees_them_with_the_trained_part_marked(head, path, options, text):
    done = head(path, "--rows", 1, "--model", ROOT / "data/tiny-phi3", *options)
    assert done.stdout == f"{path}:1\n{text}\n\n1 of 9 rows of {path}\n"
    coloured = head(path, "--rows", 1, "--model", ROOT / "data/tiny-phi3", *options, colour=True)
    assert "\x1b[32m⟦" in coloured.stdout


def test_chats_and_preferences(head, tmp_path):
    chat = tmp_path / "chat.json"
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    chat.write_text(json.dumps([{"messages": talk}]))
    assert f"{chat}:1\nsystem:   s\nprompt:   u\nresponse: a\n" in head(chat).stdout
    pair = tmp_path / "pair.jsonl"
    pair.write_text('{"prompt": "u", "chosen": "a", "rejected": "b"}\n')
    assert f"{pair}:1\nprompt:   u\nchosen:   a\nrejected: b\n" in head(pair).stdout
    assert "⟦a<|end|>⟧" in head(pair, "--model", ROOT / "data/tiny-phi3").stdout


def test_every_row_is_checked(head, path):
    with path.open("a") as file:
        file.write('{"prompt": "x"}\n{\n')
    done = head(path, "--rows", 1)
    assert done.exit_code == 1
    assert f"{path}: 2 rows cannot be used:" in done.stderr
    assert f"{path}:10: field 'response' is missing" in done.stderr
    assert f"{path}:11: column 2: broken JSON" in done.stderr


def test_a_control_token_in_a_row_is_named(head, path):
    path.write_text('{"prompt": "<|end|>", "response": "y"}\n')
    done = head(path, "--model", ROOT / "data/tiny-phi3")
    assert done.exit_code == 1
    assert f"{path}:1: messages[0] (user) has '<|end|>'" in done.stderr
