"""Templates, of the model and of the params: rows are rendered, or it is said what is wrong with the template."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import TEXTS, damaged

from olivepress.core.template import check_template, render_prompt, unescape
from olivepress.core.tokenizer import load_tokenizer
from olivepress.data import encode
from olivepress.data.encode import Encoder
from olivepress.data.formats import Row, row_of

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
ROWS = [
    row_of("how do i cook pasta", "In much water."),
    Row("row", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello"}, {"role": "user", "content": "more"},
                {"role": "assistant", "content": "no"}], [{"type": "function", "function": {"name": "f"}}]),
]  # fmt: skip
CHAT = [
    (TINY / "chat_template.jinja").read_text(encoding="utf-8"),
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "{% endgeneration %}<|end|>\n{% else %}{{ m['content'] }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "{% macro turn(m) %}{{ m.role }}: {{ m.content | trim }}\n{% endmacro %}{% for m in messages %}{{ turn(m) }}"
    "{% endfor %}{{ raise_exception('x') if not messages }}{{ strftime_now('%Y-%m-%d') }}{{ tools | tojson }}",
]
PARTS = st.sampled_from(
    ["{% for x in range(5) %}", "{% endfor %}", "{{ ''.__class__.__mro__ }}", "{{ [1] * 99999999999 }}", "{{ x.y.z }}",
    "{{ 'a' * 10**9 }}", "{{ raise_exception('no') }}", "{{ messages[0].content.x }}", "{% if %}", "{{ 1 / 0 }}",
    "{{ cycler }}", "{{ joiner.__init__.__globals__ }}", "{% set ns = namespace() %}", "{{ messages | length }}",
    "{% include 'x' %}", "{{ self }}", "{{ lipsum(5) }}", "{{ strftime_now(5) }}", "{{ strftime_now('%Q' * 99) }}",
    "{% generation %}", "{{ '%s' | format(messages) }}", "{{ '{0.__class__}'.format(1) }}", "{{ undefined + 1 }}",
    "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}", "{{ (1).__class__ }}", "{{ 9 ** 9 ** 4 }}"]
)  # fmt: skip


def assembled(template: str, part: str, place: int) -> str:
    place %= len(template) + 1
    return template[:place] + part + template[place:]


def decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


CHAT_TEMPLATES = st.one_of(
    st.builds(assembled, st.sampled_from(CHAT), PARTS, st.integers(0, 2000)),
    st.builds(decoded, damaged(st.sampled_from([template.encode() for template in CHAT]))),
    st.lists(PARTS | TEXTS, max_size=4).map("".join),
    st.text(max_size=50),
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TINY, trust_remote_code=False)


@given(template=CHAT_TEMPLATES, date=st.sampled_from([None, "2026-01-31"]))
def test_chat_templates_render_or_are_refused(template, date, tokenizer, answered):
    tokenizer.chat_template = template
    answered(lambda: Encoder(tokenizer, "chat", date).encode(ROWS))


TEXT_TEMPLATES = st.one_of(
    st.lists(
        st.sampled_from(["{prompt}", "{response}", "{{", "}}", "\\n", " ", "### ", "{", "}", "<|end|>", "{prompt!r}"])
        | TEXTS,
        max_size=5,
    ).map("".join),
    st.text(max_size=20).map("{{prompt}}{0}{{response}}".format),
    st.text(max_size=30),
)


@pytest.mark.usefixtures("here")
@given(template=TEXT_TEMPLATES, prompt=TEXTS | st.text(max_size=20))
def test_text_templates_fill_in_the_prompt_or_are_refused(template, prompt, tokenizer, answered):
    refused = answered(check_template, unescape(template))
    if refused is None and template != "chat":
        before, _, after = unescape(template).replace("{{", "{").replace("}}", "}").partition("{prompt}")
        assert render_prompt(unescape(template), prompt) == before + prompt + after.partition("{response}")[0]
    answered(lambda: Encoder(tokenizer, template).encode(ROWS))
    assert encode.unescape(template) == unescape(template)
