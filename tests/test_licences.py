"""The licence gate, and what models say about their own licence."""

import pytest

from olivepress.core.errors import PressError
from olivepress.fetch.model_card import declared_licence
from olivepress.register.licences import check_licence, licence_texts

ALLOWED = ("MIT", "Apache-2.0", "llama3.1")


@pytest.mark.parametrize(
    ("licence", "declared"),
    [
        ("MIT", None),
        ("MIT", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT OR GPL-3.0-only", None),
        ("MIT AND Apache-2.0", None),
        ("(MIT AND Apache-2.0) OR GPL-3.0-only", None),
        ("llama3.1", "llama3.1"),
    ],
)
def test_an_allowed_licence_passes(licence, declared):
    check_licence(licence, ALLOWED, declared)


@pytest.mark.parametrize(
    ("licence", "declared", "expected"),
    [
        ("GPL-3.0-only", None, "'GPL-3.0-only': not allowed. register.allowed_licences has MIT, Apache-2.0, llama3.1"),
        ("MIT AND GPL-3.0-only", None, "not allowed"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", None, "not allowed"),
        ("gemma", None, "no SPDX licence expression"),
        ("MIT OR", None, "no SPDX licence expression"),
        ("", None, "not allowed"),
        ("MIT", "cc-by-nc-4.0", "'MIT', but the base's README.md declares 'cc-by-nc-4.0'"),
    ],
)
def test_another_licence_is_refused(licence, declared, expected):
    with pytest.raises(PressError) as caught:
        check_licence(licence, ALLOWED, declared)
    message = caught.value.format_message()
    assert message.startswith("register.licence: ")
    assert expected in message


def test_nothing_is_allowed_by_an_empty_list():
    with pytest.raises(PressError, match="has none"):
        check_licence("MIT", (), None)


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: mit\n---\n# Model\n", "mit"),
        ("---\ntags: [a]\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: own\n---\n", None),
        ("---\nlicense: [mit, bsd]\n---\n", None),
        ("---\nlicense: {\n---\n", None),
        ("---\n- a\n---\n", None),
        ("# license: mit\n", None),
        ("text\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_what_a_model_card_declares(tmp_path, card, found):
    (tmp_path / "README.md").write_text(card)
    assert declared_licence(tmp_path) == found


def test_without_a_card_nothing_is_declared(tmp_path):
    assert declared_licence(tmp_path) is None


def test_licence_and_notice_files_are_found(tmp_path):
    for name in ("LICENSE", "LICENSE-weights.txt", "NOTICE", "README.md"):
        (tmp_path / name).write_text(f"text of {name}")
    assert licence_texts(tmp_path) == {name: f"text of {name}" for name in ("LICENSE", "LICENSE-weights.txt", "NOTICE")}


def test_a_licence_is_shown_without_what_a_terminal_obeys(tmp_path):
    (tmp_path / "LICENSE").write_bytes("\x1b[2Jtake it\x0c\r\n\u202eand go \xe9".encode() + b"\xff")
    assert licence_texts(tmp_path) == {"LICENSE": "[2Jtake it\nand go é\ufffd"}
