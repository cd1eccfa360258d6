"""Text templates of the params: what one may be, and the prompt that it renders."""

import pytest

from olivepress.core.errors import PressError
from olivepress.core.template import check_template, render_prompt, unescape


def error(function, *arguments) -> str:
    with pytest.raises(PressError) as caught:
        function(*arguments)
    return caught.value.format_message()


@pytest.mark.parametrize("template", ["chat", "{prompt}{response}", "Q: {prompt}\nA: {response} {{end}}"])
def test_good_templates_pass(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{prompt} {answer}", "text.template: unknown field {answer}. The rows have {prompt} and {response}."),
        ("{prompt} {response} {}", "unknown field {}."),
        ("{prompt.x} {response}", "unknown field {prompt.x}."),
        ("{response} {prompt}", "found the fields ['response', 'prompt'], expected {prompt} and then {response}"),
        ("{prompt}", "found the fields ['prompt'], expected {prompt} and then {response}"),
        ("{prompt}{response}{response}", "once each"),
        ("chats", "found the fields [], expected"),
        ("{prompt}{response}\ud800", "character 19 is half of a surrogate pair (\\ud800)"),
        ("{prompt}\0{response}", "character 9 is NUL"),
        ("{prompt} {response} {", "Write a literal brace twice."),
    ],
)
def test_bad_templates_are_explained(template, expected):
    message = error(check_template, template)
    assert message.startswith("text.template: ")
    assert expected in message


def test_unescape_turns_backslash_n_into_a_line_break():
    assert unescape(r"Q: {prompt}\nA: {response}\n") == "Q: {prompt}\nA: {response}\n"
    assert unescape("a\nb") == "a\nb"


def test_a_prompt_is_filled_in_as_it_stands():
    assert render_prompt("Q: {prompt}\nA: {response}", "1 {x}?") == "Q: 1 {x}?\nA: "
