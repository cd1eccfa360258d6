"""A base's tokenizer against its embedding, and what ends an answer: by template, config and generation config."""

import json
import shutil
from pathlib import Path

import pytest

from olivepress.core.errors import PressError
from olivepress.fetch.tokens import check_tokens

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
END = 4  # <|end|>, which the template writes


@pytest.fixture
def base(tmp_path):
    """Copies the embedded base; (file, changes) each: keys set, or taken out where the value is None."""

    def write(*changes: tuple[str, dict]) -> Path:
        folder = shutil.copytree(TINY, tmp_path / "base")
        for name, keys in changes:
            value = json.loads((folder / name).read_text()) | keys
            (folder / name).write_text(json.dumps({key: one for key, one in value.items() if one is not None}))
        return folder

    return write


def checked(folder: Path) -> object:
    """What generation_config.json says ends an answer after the check; None if there is no such file."""
    check_tokens(folder, json.loads((folder / "config.json").read_text()), trust_remote_code=False)
    path = folder / "generation_config.json"
    return json.loads(path.read_text())["eos_token_id"] if path.exists() else None


def error(folder: Path) -> str:
    with pytest.raises(PressError) as caught:
        checked(folder)
    return caught.value.message


def test_the_embedded_base_stays_as_it_is(base):
    folder = base()
    assert checked(folder) == [END, 0]
    for path in TINY.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_a_tokenizer_with_more_tokens_than_the_embedding(base):
    message = error(base(("config.json", {"vocab_size": 2047})))
    assert "with id 2,047, but the model has embeddings for 2,047 tokens (vocab_size)" in message


def test_a_token_that_was_added_beyond_the_embedding(base):
    folder = base()
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["added_tokens"].append({**value["added_tokens"][0], "id": 2048, "content": "<|more|>"})
    path.write_text(json.dumps(value))
    assert "its tokenizer has the token '<|more|>' with id 2,048" in error(folder)


def test_a_length_that_is_no_number_is_found_by_the_first_text(base):
    assert "its tokenizer fails on a text" in error(base(("tokenizer_config.json", {"model_max_length": "long"})))


def test_a_tokenizer_that_takes_control_tokens_for_text_is_refused(base):
    message = error(base(("tokenizer_config.json", {"split_special_tokens": True})))
    assert "tokenizer_config.json: split_special_tokens is set" in message


def test_a_tokenizer_that_draws_lots_is_refused(base):
    folder = base()
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["dropout"] = 0.5
    path.write_text(json.dumps(value))
    assert "tokenizer.json: model.dropout is 0.5: it would split a text otherwise each time" in error(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 99_999], ids=range(4))
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_cannot_be_loaded(base, name, text):
    folder = base()
    (folder / name).write_text(text)
    assert str(folder) in error(folder)


NO_EOS = {"eos_token_id": None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("generation_config.json", {"eos_token_id": 0})], [0, END]),
        ([("generation_config.json", {"eos_token_id": END})], [END, 0]),
        ([("generation_config.json", NO_EOS), ("config.json", NO_EOS)], [END, 0]),
        ([("generation_config.json", NO_EOS)], [0, END]),
        ([("generation_config.json", {"eos_token_id": [END, 7]})], [END, 7, 0]),
        ([("config.json", {"eos_token_id": [END, 0, 9]})], [END, 0, 9]),
        ([("config.json", {"eos_token_id": -1})], [END, 0]),
    ],
)
def test_ends_come_from_all_who_name_them(base, changes, expected):
    assert checked(base(*changes)) == expected


def test_without_a_generation_config_the_template_is_asked(base, capsys):
    folder = base()
    (folder / "generation_config.json").unlink()
    assert checked(folder) == [0, END]
    assert "'<|end|>' ends an answer, too" in capsys.readouterr().err


def test_nothing_ends_an_answer(base):
    nobody = [("generation_config.json", NO_EOS), ("config.json", NO_EOS | {"pad_token_id": None})]
    folder = base(*nobody, ("tokenizer_config.json", {"eos_token": None, "pad_token": None}))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{{ messages[1]['content'] }}")
    assert "nothing says which token ends an answer: no eos_token_id in config.json" in error(folder)


@pytest.mark.parametrize("value", [["x"], "0", 1.5, True, [0, 2048], {"a": 1}, [[0]]])
def test_ends_that_are_no_tokens(base, value):
    message = error(base(("generation_config.json", {"eos_token_id": value})))
    assert "generation_config.json: eos_token_id is " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", "hot"), ("temperature", -1), ("top_p", 7), ("top_k", -3), ("top_k", 1.5), ("num_beams", 0),
        ("do_sample", "yes"), ("max_length", [1]), ("repetition_penalty", {}), ("pad_token_id", "x"),
        ("pad_token_id", 2048), ("bos_token_id", 99_999), ("num_beams", 10**9),
        ("cache_implementation", "of_my_own"), ("watermarking_config", 5),
    ],
)  # fmt: skip
def test_settings_of_generation_that_are_none(base, key, value):
    message = error(base(("generation_config.json", {key: value})))
    assert "generation_config.json: " in message and (key in message or "cannot read it" in message)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff", "[" * 99_999], ids=range(6))
def test_a_generation_config_that_is_none(base, text):
    folder = base()
    (folder / "generation_config.json").write_bytes(text.encode("latin-1"))
    assert error(folder).startswith(f"{folder / 'generation_config.json'}: ")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}",
        "{{ raise_exception('no') }}",
        "{{ nope() }}",
        "no word of it",
        "{{ 'x' * 99999999999 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9**(9**9) }}",
    ],
)
def test_a_template_that_cannot_be_rendered_is_prepares_to_refuse(base, monkeypatch, template):
    from olivepress.core import limits

    monkeypatch.setattr(limits, "SECONDS", 0.5)
    folder = base()
    (folder / "chat_template.jinja").write_text(template)
    assert checked(folder) == [END, 0]
