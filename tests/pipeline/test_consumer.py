"""A release in use: olivepress.load, the code of its card, and olivepress chat."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import olivepress
from olivepress.core.errors import PressError
from olivepress.register.model_card import QUESTION, render_card
from olivepress.runtime.conversation import Conversation
from olivepress.runtime.integrity import VERIFY

ROOT = Path(__file__).parents[2]
TARGET = "cpu-int4"
TEMPLATE = "Question: {prompt}\\nAnswer: {response}"  # as params have it


@pytest.fixture(scope="module")
def release(workspace, tmp_path_factory) -> Path:
    """The release that the pipeline made, on its own."""
    folder = tmp_path_factory.mktemp("consumer") / "ft-for-travel"
    shutil.copytree(workspace.folder / "models/onnx" / TARGET, folder, ignore=shutil.ignore_patterns(".gitignore"))
    return folder


@pytest.fixture(scope="module")
def model(release):
    return olivepress.load(release, graph="portable")  # whose answers smoke-infer wrote


@pytest.fixture
def with_text_template(release, tmp_path) -> Path:
    """The same files under a text template, manifest and card included."""
    folder = tmp_path / "text"
    shutil.copytree(release, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["params"]["text"]["template"] = TEMPLATE
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "README.md").write_text(render_card(manifest, {}))
    return folder


def error(function, *arguments, **options) -> str:
    with pytest.raises(PressError) as caught:
        function(*arguments, **options)
    return caught.value.message


# --- loading


def test_it_knows_its_adapters_and_its_context(model):
    assert model.adapters == ("travel", "cooking")
    assert model.context_length == 512


def test_a_folder_of_several_targets(release, tmp_path):
    shutil.copytree(release, tmp_path / "all" / TARGET)
    assert olivepress.load(tmp_path / "all").adapters == ("travel", "cooking")
    other = tmp_path / "all" / "other"
    shutil.copytree(release, other)
    assert "has several targets: cpu-int4, other. Choose one: target='cpu-int4'" in error(
        olivepress.load, tmp_path / "all"
    )
    assert olivepress.load(tmp_path / "all", target=TARGET).context_length == 512
    assert "no target 'cuda' (there: cpu-int4, other)" in error(olivepress.load, tmp_path / "all", target="cuda")
    assert "is for the target 'cpu-int4', not 'other'" in error(olivepress.load, other, target="other")


def test_what_is_no_release_is_named(release, tmp_path):
    assert "manifest.json: not there. Expected a release" in error(olivepress.load, tmp_path)
    manifest = json.loads((release / "manifest.json").read_text())
    for text, words in (
        ("{", "is no manifest of a release"),
        ("[]", "is no manifest of a release"),
        (json.dumps({**manifest, "adapters": None}), "is no manifest of a release"),
        (json.dumps({**manifest, "adapters": ["../../x"]}), "adapters: '../../x' is no name"),
        (json.dumps({**manifest, "params": {"text": {"template": "{reply}"}}}), "unknown field {reply}"),
    ):
        (tmp_path / "manifest.json").write_text(text)
        assert words in error(olivepress.load, tmp_path)


def test_a_model_for_cuda_without_cuda_says_what_to_install(release, tmp_path):
    folder = tmp_path / "cuda"
    shutil.copytree(release, folder)
    path = folder / "model/genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    path.write_text(json.dumps(config))
    assert "model/genai_config.json: has " in error(olivepress.load, folder)  # not what the manifest says
    assert "was made for CUDA" in error(olivepress.load, folder, verify="none")
    path.write_text("{")
    assert "genai_config.json: not a configuration" in error(olivepress.load, folder, verify="none")


@pytest.mark.parametrize("verify", VERIFY)
def test_every_way_to_verify_loads_what_is_as_it_was(release, verify):
    assert olivepress.load(release, verify=verify).adapters == ("travel", "cooking")


def test_what_was_changed_is_refused_even_if_it_was_loaded_before(release, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(release, folder)
    olivepress.load(folder)
    weights = folder / "model/model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    for verify in ("cached", "full", "sizes"):
        assert f"{weights}: its SHA-256 is " in error(olivepress.load, folder, verify=verify)
    content[1000] ^= 1
    weights.write_bytes(content)
    assert olivepress.load(folder).answer(QUESTION, max_new_tokens=4).tokens
    (folder / "model/special_tokens_map.json").write_text("{}")
    assert "special_tokens_map.json: is there, but not in manifest.json" in error(olivepress.load, folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.onnx", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100], ids=["empty", "brace", "zeros"])
def test_a_run_of_ones_own_without_a_manifest(release, tmp_path, name, content):
    """Taken if asked for; what GenAI makes of broken files is an error that names the folder."""
    folder = tmp_path / "run"
    shutil.copytree(release, folder)
    (folder / "manifest.json").unlink()
    assert "manifest.json: not there" in error(olivepress.load, folder)
    assert olivepress.load(folder, verify="none").answer(QUESTION, "travel", max_new_tokens=4).tokens
    (folder / "model" / name).write_bytes(content)
    assert str(folder / "model") in error(olivepress.load, folder, verify="none", graph="portable")


def test_a_configuration_that_does_not_fit_the_model_is_an_error_that_names_it(release, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(release, folder)
    path = folder / "model/genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"]["outputs"]["present_key_names"] = "x"
    path.write_text(json.dumps(config))
    model = olivepress.load(folder, verify="none")
    assert "ONNX Runtime GenAI cannot run it: Invalid output name: x" in error(model.answer, "hi")
    assert "ONNX Runtime GenAI cannot run it" in error(model.answers, ["hi", "you"], batch_size=2)


# --- answering


def smoke_answers(workspace) -> list[dict]:
    """What smoke-infer saw: adapter (None: without one), prompt, text and tokens of every answer."""
    files = sorted((workspace.folder / "results/answers" / TARGET).glob("*.json"))
    return [answer for file in files for answer in json.loads(file.read_text())]


def test_greedy_answers_are_smoke_infers(workspace, model):
    limit = 48
    for seen in smoke_answers(workspace):
        prompt, adapter = seen["prompt"], seen["adapter"]
        answer = model.answer(prompt, adapter, max_new_tokens=limit)
        assert answer.tokens == seen["tokens"]
        assert answer.text == seen["text"] == "".join(model.stream(prompt, adapter, max_new_tokens=limit))
        assert answer.ended == ("length" if len(answer.tokens) == limit else "end")


def test_an_unknown_adapter_lists_the_known_and_the_call_fails_at_once(model):
    for method, prompt in ((model.answer, "hi"), (model.stream, "hi"), (model.answers, ["hi"])):
        assert "no adapter 'skiing' (there: travel, cooking)." in error(method, prompt, "skiing")


def test_what_cannot_be_asked(model):
    assert "the prompt has 2006 tokens, the model's context 512: shorten it." in error(model.stream, "x " * 1000)
    assert "no option 'tempature'" in error(model.stream, "hi", tempature=1)
    assert "batch_size: 0" in error(model.answers, ["hi"], batch_size=0)


def test_a_seed_fixes_what_is_drawn(model):
    def drawn(seed: int) -> str:
        return model.answer(QUESTION, temperature=1.5, seed=seed, max_new_tokens=16).text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) > 1
    assert model.answer(QUESTION, temperature=1, top_k=1).text == model.answer(QUESTION).text


def test_a_stop_text_ends_the_answer(model):
    whole = model.answer("What is the capital of France?").text
    word = whole.split()[2]
    answer = model.answer("What is the capital of France?", stop=[word, "never said"])
    assert answer.text == whole[: whole.index(word)]
    assert answer.ended == "stop"
    assert "".join(model.stream("What is the capital of France?", stop=word)) == answer.text


def test_batches(model):
    prompts = ["hello", QUESTION, "What is the capital of France?", "how do i cook pasta"]
    alone = [model.answer(prompt, max_new_tokens=12) for prompt in prompts]
    assert [answer.tokens for answer in model.answers(prompts, max_new_tokens=12)] == [one.tokens for one in alone]
    together = model.answers(prompts, batch_size=3, max_new_tokens=12)
    # a batch may round otherwise, so an answer may differ late: the first words and the ends are the same
    assert [answer.text[:8] for answer in together] == [answer.text[:8] for answer in alone]
    assert [answer.tokens[:3] for answer in together] == [answer.tokens[:3] for answer in alone]
    assert all(len(answer.seconds_per_token) == len(answer.tokens) <= 12 for answer in together)
    stopped = model.answers(prompts, batch_size=4, stop=alone[0].text[1:4])
    assert stopped[0].text == alone[0].text[:1]


def test_a_conversation_is_what_its_messages_are(model):
    talk = Conversation(model, system="You answer in one sentence.")
    first = talk.say("hello")
    assert talk.messages == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first.text}]
    second = "".join(talk.stream("What is the capital of France?"))
    expected = [
        {"role": "system", "content": "You answer in one sentence."},
        *({"role": "user", "content": "hello"}, {"role": "assistant", "content": first.text}),
        {"role": "user", "content": "What is the capital of France?"},
    ]
    assert model.answer(expected).text == second
    assert "hello" in model.render(expected) and "one sentence" in model.render(expected)
    before = list(talk.messages)
    next(iter(talk.stream("and of Spain?")))  # broken off
    assert "shorten it" in error(talk.say, "x " * 1000)
    assert talk.messages == before
    talk.reset()
    assert talk.messages == []
    assert talk.say("What is the capital of France?").text  # the system prompt is still there


# --- a template that does not end for some words only


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{% for i in range(1000000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}", "does not end within"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "crashes, or takes all memory"),
        ("{% for i in range(100000) %}" + "x" * 20 + "{% endfor %}", r"writes more than 1,049,\d\d\d bytes"),
    ],
    ids=["time", "depth", "output"],
)
def test_a_chat_template_is_bounded_for_every_question(release, tmp_path, body, words):
    folder = tmp_path / "hostile"
    shutil.copytree(release, folder)
    template = (folder / "model/chat_template.jinja").read_text()
    hostile = f"{{% if messages[0]['content'] == 'now' %}}{body}{{% endif %}}{template}"
    (folder / "model/chat_template.jinja").write_text(hostile)
    model = olivepress.load(folder, graph="portable", verify="none")
    assert "Chicago" in model.render("Where is Chicago?")
    with pytest.raises(PressError, match=f"the model's chat template: ONNX Runtime GenAI {words}"):
        model.render("now")
    assert model.answer("Where is Chicago?", max_new_tokens=2).tokens


def test_a_tokenizer_of_another_model_is_seen_at_the_first_question(release, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(release, folder)
    path = folder / "model/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] |= {token: 5000 for token in tokenizer["model"]["vocab"] if "h" in token}
    path.write_text(json.dumps(tokenizer))
    model = olivepress.load(folder, verify="none")
    message = error(model.answer, "Where is Chicago?")
    assert "the tokenizer has id 5000 for a part of the text, and the model 2048 tokens" in message


# --- a text template, everywhere


def test_a_text_template_is_used_by_load(with_text_template):
    model = olivepress.load(with_text_template)
    assert model.render("why") == "Question: why\nAnswer: "
    assert model.answer("why", "travel", max_new_tokens=8).tokens
    assert "no place for a system prompt" in error(model.answer, "why", system="be brief")


def programs(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", card, re.M | re.S)


@pytest.mark.parametrize("text_template", [False, True], ids=["chat", "text"])
def test_both_programs_of_the_card_say_the_same(release, with_text_template, text_template):
    folder = with_text_template if text_template else release
    ours, plain = programs((folder / "README.md").read_text())
    assert "olivepress" not in plain
    said = []
    for program, path in ((ours, str(ROOT)), (plain, "")):
        # One graph for both, the one that GenAI loads by itself: another may differ where two tokens are as likely.
        environment = {
            "OLIVEPRESS_GRAPH": "portable",
            "PYTHONPATH": path,
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0].strip() == said[1].strip() != ""
    answer = olivepress.load(folder, graph="portable").answer(QUESTION, "travel").text
    assert said[0] == answer + "\n"


def test_the_programs_of_the_docs_run(release):
    program = "".join(programs((ROOT / "docs/using.md").read_text(encoding="utf-8")))
    assert program.count("model.") >= 4
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=release.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert olivepress.load(release).answer(QUESTION, "travel", max_new_tokens=48).text in done.stdout


# --- chat


def chat(workspace, *options: str, say: str, check: bool = True) -> subprocess.CompletedProcess:
    return workspace.run(sys.executable, "-m", "olivepress", "chat", *map(str, options), input=say, check=check)


def test_chat_remembers_resets_and_changes_the_adapter(workspace, release, model):
    talk = Conversation(model)
    expected = [talk.say("hello").text, talk.say(QUESTION).text]
    travel = model.answer(QUESTION, "travel", max_new_tokens=20).text
    lines = ["hello", QUESTION, "/reset", "/adapter travel", QUESTION, "/system be brief", "/help"]
    options = ("--graph", "portable", "--max-new-tokens", "20")  # as ``model``
    done = chat(workspace, "--folder", release, *options, say="\n".join(lines) + "\n")
    assert expected[0] in done.stdout and expected[1][:20] in done.stdout
    assert travel in done.stdout
    for words in ("forgotten", "adapter: travel (there: travel, cooking)", "system prompt: be brief", "/adapter NAME"):
        assert words in done.stdout


def test_chat_goes_on_after_what_cannot_be_answered(workspace, release):
    done = chat(workspace, "--folder", release, say="/adapter ski\n" + "x " * 1000 + "\nhello\n")
    assert "no adapter 'ski' (there: travel, cooking)." in done.stderr
    assert "shorten it" in done.stderr
    assert len(done.stdout) > 20


def test_chat_with_a_run_that_is_not_registered_takes_the_template_of_the_params(workspace, tmp_path):
    """models/onnx/<target> without a manifest, and a text template."""
    here = tmp_path / "models/onnx" / TARGET
    for part in ("model", "adapters"):
        shutil.copytree(workspace.folder / "models/onnx" / TARGET / part, here / part)
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({"text": {"template": TEMPLATE}}))
    from olivepress.runtime.release import load_run

    expected = load_run(here, TEMPLATE).answer(QUESTION, "travel", max_new_tokens=8)
    command = [sys.executable, "-m", "olivepress", "chat", "--adapter", "travel", "--max-new-tokens", "8"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=environment,
            input=QUESTION,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert expected.text in done.stdout
    assert "no target 'cuda' (there: cpu-int4)" in run("--target", "cuda").stderr
    # what was exported since the last registration is talked to all the same, and that is said
    shutil.copy(workspace.folder / "models/onnx" / TARGET / "manifest.json", here)
    (here / "model/LICENSE").write_text("another\n")
    done = run()
    assert expected.text in done.stdout
    assert "This is not the model that was registered: " in done.stderr and "model/LICENSE: has 8 bytes" in done.stderr
    params.unlink()
    assert "no model here. Run make repro in a checkout, or name a release: --folder" in run().stderr
