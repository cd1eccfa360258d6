"""Rows as tokens: what the assistant writes is found on tokens, whatever the template, or the row is refused."""

from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from olivepress.core import limits
from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow
from olivepress.core.prepared import Preference, Prepared, answer_mask
from olivepress.data import encode as module
from olivepress.data.encode import Encoder, encode_rows
from olivepress.data.formats import Pair, Row, row_of

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
CHATML = (
    "{% for m in messages %}<|user|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)
GENERATION = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "{% endgeneration %}<|end|>\n{% else %}{{ m['content'] }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Phi-3.5's ends with the end of the text where nothing is asked for
ENDING = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
# Qwen3's: thoughts, empty ones, in the last answer alone
THINKING = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m['content'].split('</think>')[-1].lstrip() }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TOOLS = (
    "{% if tools %}<|system|>\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% for call in m['tool_calls'] %}"
    "CALL {{ call['function']['name'] }} {{ call['function']['arguments'] | tojson }}{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY)


def encoder(tokenizer, template: str | None = None, **options) -> Encoder:
    tokenizer.chat_template = template or tokenizer.chat_template
    return Encoder(tokenizer, **options)


def spans(encoder: Encoder, row: Row) -> list[str]:
    (found,) = encoder.encode([row])
    assert isinstance(found, Prepared), found
    assert found.answers[-1][1] == len(found.input_ids)
    assert [bool(n) for n in answer_mask(found)].count(True) == sum(b - a for a, b in found.answers)
    last = len(found.answers) and found.answers[-1][0]
    assert found.input_ids[:last] == encoder.prompt(row.messages[:-1], row.tools), "as it is asked for"
    return [encoder.tokenizer.decode(found.input_ids[start:end]) for start, end in found.answers]


def error(encoder: Encoder, row: Row | Pair) -> str:
    (found,) = encoder.encode([row])
    assert isinstance(found, BadRow), found
    return str(found)


@pytest.mark.parametrize("template", [None, CHATML, GENERATION, ENDING], ids=["phi", "chatml", "generation", "ending"])
def test_all_answers_of_a_talk_with_their_end_tokens(tokenizer, template):
    assert spans(encoder(tokenizer, template), Row("x:1", TALK)) == ["two two<|end|>", "four<|end|>"]


# How well-known models' templates are made, with this tokenizer's control tokens.
KNOWN = {
    "Llama 3": (
        "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}{%- endif %}"
        "{{- '<|system|>\\n\\nToday Date: ' + date_string + '\\n\\n<|end|>' }}{%- for m in messages %}"
        "{{- '<|' + m['role'] + '|>\\n\\n' + m['content'] | trim + '<|end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|assistant|>\\n\\n' }}{%- endif %}",
        ["two two<|end|>", "four<|end|>"],
    ),
    "Mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
        [" two two<|endoftext|>", " four<|endoftext|>"],
    ),
    "Gemma": (
        "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<|user|>' + role + '\\n' + m['content'] | trim + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|user|>model\\n' }}{% endif %}",
        ["two two<|end|>", "four<|end|>"],
    ),
    "SmolLM2": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "{{ '<|user|>system\\nYou are a helpful AI assistant<|end|>\\n' }}{% endif %}"
        "{{ '<|user|>' + m['role'] + '\\n' + m['content'] + '<|end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|user|>assistant\\n' }}{% endif %}",
        ["two two<|end|>", "four<|end|>"],
    ),
    "Zephyr": (
        "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\\n' + m['content'] + eos_token }}\n"
        "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + m['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        ["two two<|endoftext|>", "four<|endoftext|>"],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_templates_of_well_known_models(tokenizer, name):
    template, answers = KNOWN[name]
    assert spans(encoder(tokenizer, template, date="2026-01-31"), Row("x:1", TALK[1:])) == answers


def test_a_part_for_thoughts_that_only_the_row_has_is_said_with_what_to_do(tokenizer):
    answer = "<think>\nhm\n</think>\n\nfour"
    said = encoder(tokenizer, THINKING)
    assert "asks for an answer" not in str(said.encode([Row("x:1", TALK)]))
    opening = THINKING.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")
    found = encoder(tokenizer, opening.replace("<think>\n\n</think>\n\n", ""))
    assert "let the answers begin with it" in error(found, row_of("a", answer))


def test_thoughts_of_the_last_answer_alone(tokenizer):
    assert spans(encoder(tokenizer, THINKING), Row("x:1", TALK)) == [
        "two two<|end|>",
        "<think>\n\n</think>\n\nfour<|end|>",
    ]


def test_weight_zero_is_not_trained_on(tokenizer):
    talk = [*TALK[:2], {**TALK[2], "weight": 0}, *TALK[3:]]
    assert spans(encoder(tokenizer), Row("x:1", talk)) == ["four<|end|>"]


def test_tool_calls_are_what_the_assistant_writes(tokenizer):
    call = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
    talk = [
        {"role": "user", "content": "rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": "It rains."},
    ]
    row = Row("x:1", talk, [{"type": "function", "function": {"name": "rain"}}])
    assert spans(encoder(tokenizer, TOOLS), row) == ['CALL rain {"city": "Oslo"}<|end|>', "It rains.<|end|>"]
    assert "the call of 'rain' is not in what the model's chat template makes" in error(encoder(tokenizer, CHATML), row)


def test_a_template_without_an_end_token_gets_the_tokenizers(tokenizer):
    found = encoder(tokenizer, NO_END)
    assert spans(found, row_of("a", "b"))[-1].strip() == "b<|endoftext|>"
    assert any("are ended by '<|endoftext|>'" in what for what in found.counts)
    tokenizer.eos_token = None
    with pytest.raises(PressError, match="no token that ends an answer, and the tokenizer names none"):
        encoder(tokenizer, NO_END).encode([row_of("a", "b")])


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        ("Q: {prompt}\\nA: {response}", "b<|endoftext|>"),
        ("Q: {prompt}\\nA:{response}\\n\\n", "b\n\n<|endoftext|>"),
        ("<|user|>\\n{prompt}<|end|>\\n<|assistant|>\\n{response}<|end|>\\n", "b<|end|>"),
        ("{prompt}{response}", "b<|endoftext|>"),
    ],
)
def test_text_templates(tokenizer, template, answer):
    assert spans(encoder(tokenizer, template=None) and Encoder(tokenizer, template), row_of("a", "b")) == [answer]


def test_a_text_template_takes_several_turns_and_no_system(tokenizer):
    found = Encoder(tokenizer, "Q: {prompt}\\nA:{response}")
    assert spans(found, Row("x:1", TALK[1:])) == ["two two", "four<|endoftext|>"]
    assert "no place for one" in error(found, Row("x:1", TALK))


@pytest.fixture
def blank_first():
    """A tokenizer that begins every text with a blank, as SentencePiece does."""
    words = ["<unk>", "</s>", "▁", "▁A", "▁b", "b", ":", "▁a", "\n", "A", "a"]
    ids = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.BPE(ids, [("▁", "A"), ("▁", "b"), ("▁", "a")], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")


def test_a_prompt_that_ends_in_a_blank_is_refused_where_it_cannot_be_told_apart(blank_first):
    found = Encoder(blank_first, "{prompt}\\nA: {response}")
    assert "the tokenizer joins the end of the prompt" in error(found, row_of("a", "b"))


def test_prompt_and_answer_are_encoded_apart_where_they_would_share_a_token(tokenizer):
    found = Encoder(tokenizer, "Q: {prompt} A: {response}")
    assert spans(found, row_of("a", "word")) == ["word<|endoftext|>"]
    assert any("encoded apart" in what for what in found.counts)


@pytest.mark.parametrize("text", ["hi<|end|>\n<|assistant|>\nyes", "<|endoftext|>", "a <|user|> b"])
@pytest.mark.parametrize("place", [0, 1])
def test_control_tokens_in_a_row_are_refused(tokenizer, text, place):
    row = row_of(*(("x", text) if place else (text, "x")))
    for template in ("chat", "{prompt}\\n{response}"):
        message = error(Encoder(tokenizer, template), row)
        assert message.startswith(f"messages[{place}] ({'assistant' if place else 'user'}) has '<|")
        assert "a control token of the model" in message


def test_control_tokens_in_tools_and_calls_are_refused(tokenizer):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": ["<|end|>"]}}}
    talk = [TALK[1], {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert "messages[1] (assistant) has '<|end|>'" in error(encoder(tokenizer, TOOLS), Row("x:1", talk))
    assert "tools: has '<|end|>'" in error(encoder(tokenizer, TOOLS), Row("x:1", TALK, [{"name": "<|end|>"}]))


@pytest.mark.parametrize(
    "text", ["<|im_start|>user\nhi<|im_end|>", "### Instruction:\nhi", "[INST] hi [/INST]", "Human: hi\n\nAssistant:"]
)
def test_rows_that_were_rendered_already_are_noticed(tokenizer, text):
    found = encoder(tokenizer)
    found.encode([row_of(text, "x"), row_of("plain", "x")])
    assert [count for what, count in found.counts.items() if "look rendered by a template already" in what] == [1]


def test_rows_that_were_rendered_alike_are_counted_together(tokenizer):
    found = encoder(tokenizer)
    found.encode([row_of(f"Human: number {number}\n\nAssistant:", "x") for number in range(3)])
    assert found.counts["rows look rendered by a template already ('Human: … Assistant:')"] == 3


def test_a_name_that_the_template_leaves_out_is_counted(tokenizer):
    named = [{**TALK[1], "name": "Ada"}, {"role": "assistant", "content": "b"}]
    without = encoder(tokenizer, "{{ messages[0].content }}|{{ messages[1].content if messages[1:] }}")
    with_it = encoder(
        tokenizer, "{{ messages[0].name }}{{ messages[0].content }}|{{ messages[1].content if messages[1:] }}"
    )
    for one, count in ((without, 1), (with_it, 0)):
        one.encode([Row("x:1", named)])
        assert sum(found for what, found in one.counts.items() if "names of who speaks" in what) == count


def test_half_a_character_anywhere_is_refused(tokenizer):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": "\ud83d"}}}
    talk = [TALK[1], {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert "messages[1] (assistant): character 1 is half of a surrogate pair (\\ud83d)" in error(
        encoder(tokenizer, TOOLS), Row("x:1", talk)
    )


def test_what_the_template_leaves_out_beside_the_contents_is_counted(tokenizer):
    tools = [{"type": "function", "function": {"name": "weather"}}]
    thinking = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    without = encoder(tokenizer, "{{ messages[0].content }}|{{ messages[1].content if messages[1:] }}")
    without.encode([Row("x:1", [TALK[1], thinking], tools)])
    by_text = encoder(tokenizer, "{prompt}{response}")
    by_text.encode([Row("x:1", [TALK[1], thinking], tools)])
    for one in (without, by_text):
        assert "rows have tools that the template does not write: the model will not know of them" in one.counts
        assert "rows have thoughts that the template does not write: they are not trained on" in one.counts
    within = encoder(
        tokenizer,
        "{{ tools }}{{ messages[0].content }}|{% if messages[1:] %}{{ messages[1].reasoning_content }}"
        "{{ messages[1].content }}{% endif %}",
    )
    within.encode([Row("x:1", [TALK[1], thinking], tools)])
    assert not [what for what in within.counts if "does not write" in what and what.startswith("rows")]


# --- templates that fail


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}", "the model's chat template, line 1: Unexpected end of template"),
        ("{{ messages[0]['content'] ", "line 1: unexpected end of template"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end within"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'xxxxxxxxx' }}{% endfor %}{% endfor %}",
            "chat template",
        ),
        ("{{ 9**(9**9) }}", "does not end within"),
        ("{{ 'x' * 99999999999 }}", "MiB of memory"),
        ("{{ messages[0]['content'] }}{{ 'x' * 2000000 }}", "writes 2,000,001 characters for a row of"),
        ("{{ messages[0]['content'] }}{{ strftime_now('%Y-%m-%d') }}", "writes today's date"),
        ("{% set f = '%Y' %}{{ messages[0]['content'] }}{{ strftime_now(f) }}", "writes today's date"),
        ("{% set now = strftime_now %}{{ messages[0]['content'] }}{{ now('%d %B') }}", "writes today's date"),
        ("{{ messages[0]['content'] }}{{ [1, 2, 3] | map('string') | join(strftime_now ('%Y')) }}", "today's date"),
        ("{{ messages[0]['content'] }}{{ ['hi', 'hello'] | random }}", "draws lots"),
        ("{{ messages[0]['content'] }}{{ [['hi', 'hello']] | map('random') | join }}", "draws lots"),
        ("{{ messages[0]['content'] }}{{ lipsum(1) }}", "draws lots"),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'].strip }}", "writes '<built-in method strip of str"),
        ("{{ messages | map(attribute='content') }}", "writes '<generator object"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_in_bounded_time(tokenizer, monkeypatch, template, expected):
    monkeypatch.setattr(limits, "SECONDS", 0.5 if "99999)" in template or "9**" in template else 10)
    with pytest.raises(PressError, match="chat template") as caught:
        encoder(tokenizer, template).encode([row_of("a", "b")])
    assert expected in caught.value.message
    assert caught.value.message.startswith("row: ")


@pytest.mark.parametrize(
    "harm",
    [
        "{% set big = messages | length + 7 %}{{ big**(big**big) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "{{ messages[0]['content'] * 3000000 }}",
        "{{ strftime_now('%d') }}",
    ],
)
def test_a_template_that_waits_for_a_row_is_named_with_it(tokenizer, monkeypatch, harm):
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    template = "{% if messages[0]['content'] == 'now' %}" + harm + "{% endif %}" + tokenizer.chat_template
    talk = [{"role": "user", "content": "now"}, {"role": "assistant", "content": "b"}]
    rows = [row_of("a", "b"), Row("data.jsonl:7", talk), row_of("c", "d")]
    with pytest.raises(PressError, match=r"^data\.jsonl:7: the model's chat template ") as caught:
        encoder(tokenizer, template).encode(rows)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("pattern", "text", "said"),
    [
        ("(a+)+$", "a" * 40 + "b", "ends in an error of its library (Onig: Regex search error: retry-limit"),
        ("x+$", "x" * 40_000 + "b", "does not end within 0.3 seconds"),
    ],
    ids=["fails", "hangs"],
)
@pytest.mark.parametrize("template", ["chat", "{prompt}\\n{response}"])
def test_a_tokenizer_that_waits_for_a_row_is_named_with_it(tokenizer, monkeypatch, template, pattern, text, said):
    monkeypatch.setattr(limits, "SECONDS", 0.3 if "end within" in said else 10)
    tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    rows = [row_of("a", "b"), Row("data.jsonl:7", [{**TALK[1], "content": text}, TALK[2]]), row_of("c", "d")]
    with pytest.raises(PressError) as caught:
        Encoder(tokenizer, template).encode(rows)
    assert caught.value.message.startswith(f"data.jsonl:7: the model's tokenizer {said}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ raise_exception('roles must alternate') }}", "cannot render the row: roles must alternate"),
        ("{{ messages[0].content.nope.nope }}", "cannot render the row: "),
        ("{{ messages[0].content + 3 }}", "cannot render the row: "),
        ("{{ nope() }}", "cannot render the row: 'nope' is undefined"),
        ("hello", "messages[0] (system) is not in what the model's chat template makes of the row"),
        (
            "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
            "messages[0] (system) is not in",
        ),
    ],
)
def test_a_row_that_a_template_cannot_render_is_named(tokenizer, template, expected):
    assert expected in error(encoder(tokenizer, template), Row("x:1", TALK))


def test_what_looks_like_an_object_in_a_row_is_its_own(tokenizer):
    row = row_of("what is <function f at 0x7f00>?", "a function at a place")
    assert spans(encoder(tokenizer), row) == ["a function at a place<|end|>"]


def test_a_date_is_what_the_params_say(tokenizer):
    dated = tokenizer.chat_template + "{# #}"
    template = '<|system|>\nToday is {{ strftime_now("%d %b %Y") }}<|end|>\n' + dated
    found = encoder(tokenizer, template, date="2026-01-31")
    assert "Today is 31 Jan 2026" in tokenizer.decode(found.encode([row_of("a", "b")])[0].input_ids)
    computed = "{% set f = '%d %b' ~ ' %Y' %}<|system|>\nToday is {{ strftime_now(f) }}<|end|>\n" + dated
    found = encoder(tokenizer, computed, date="2026-01-31")
    assert "Today is 31 Jan 2026" in tokenizer.decode(found.encode([row_of("a", "b")])[0].input_ids)
    unused = "{% if false %}{{ strftime_now('%Y') }}{% endif %}" + dated
    assert spans(encoder(tokenizer, unused), row_of("a", "b")) == ["b<|end|>"]


def test_no_chat_template(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(PressError, match="the model's tokenizer has no chat template"):
        Encoder(tokenizer)


@pytest.mark.parametrize("template", [{"rag": "{{ messages }}"}, 5, ["a"], {"default": 3}], ids=str)
def test_a_chat_template_that_is_no_text(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(PressError, match=r"text\.template: the model's chat template"):
        Encoder(tokenizer)


# --- preferences and files


def test_preferences_share_their_prompt(tokenizer):
    pair = Pair("x:1", TALK[:4], [TALK[4]], [{**TALK[4], "content": "five five"}])
    (found,) = encoder(tokenizer).encode([pair])
    assert isinstance(found, Preference)
    ((begin, _),) = found.chosen.answers
    assert found.chosen.input_ids[:begin] == found.rejected.input_ids[:begin]
    assert tokenizer.decode(found.rejected.input_ids[begin:]) == "five five<|end|>"
    pair = Pair("x:1", TALK[:4], [TALK[4]], [{**TALK[4], "content": "<|end|>"}])
    assert error(encoder(tokenizer), pair).startswith("rejected: ")


def test_batches_are_of_so_many_rows_and_characters():
    short, long = row_of("a", "b"), row_of("a", "b" * module.CHARACTERS)
    assert [len(batch) for batch in module.batches([short] * 600)] == [256, 256, 88]
    assert [len(batch) for batch in module.batches([short, long, long, short])] == [2, 1, 1]


def test_a_file_for_evaluation(tokenizer, tmp_path):
    path = tmp_path / "general.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n{"prompt": "c", "response": "d"}\n')
    assert len(encode_rows(path, tokenizer, "chat")) == 2
    assert len(encode_rows(path, tokenizer, "chat", max_rows=1)) == 1
    path.write_text('{"prompt": "a"}\n{"prompt": "c", "response": "<|end|>"}\n')
    with pytest.raises(PressError) as caught:
        encode_rows(path, tokenizer, "chat")
    assert f"{path}: 2 rows cannot be used:\n  {path}:1: field 'response' is missing" in caught.value.message
    assert f"{path}:2: messages[1] (assistant) has '<|end|>'" in caught.value.message
