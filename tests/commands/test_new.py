"""olivepress new: a profile that fits the model, the data and the machine, and whose licence is the model's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub import Hub

from olivepress.core.errors import PressError
from olivepress.core.params import Params, load_params
from olivepress.core.strict_yaml import parse_yaml
from olivepress.data.dataset import source_of
from olivepress.data.formats import Pair, row_of
from olivepress.tools import new
from olivepress.tools.doctor.facts import GIB, Gpu
from olivepress.tools.new import Base, Machine, adapter_name, base_of, group_size, licence_of, render_profile
from olivepress.tools.own_data import Seen
from olivepress.tools.profile import compose

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CPU = Machine(16 * GIB, None)
A10 = Machine(64 * GIB, Gpu("NVIDIA A10", 24 * GIB, 23 * GIB, "8.6"))
T4 = Machine(64 * GIB, Gpu("Tesla T4", 16 * GIB, 15 * GIB, "7.5"))
TINY = Base("base", True, 3_400_000, (256, 512), 512, "mit", True, None)
SMALL = Base(f"hf://o/small@{COMMIT}", False, 135_000_000, (576, 1536), 2048, None, None, None)
LARGE = Base(f"hf://o/large@{COMMIT}", False, 3_800_000_000, (3072, 8192), 131_072, "mit", None, None)
QUESTIONS = [{"prompt": f"what is {n}", "response": f"it is {n}, as ${{x}} is"} for n in range(40)]


def preference(prompt: str, chosen: str, rejected: str) -> Pair:
    answers = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return Pair("row", [{"role": "user", "content": prompt}], *answers)


ROWS = [row_of(row["prompt"], row["response"]) for row in QUESTIONS]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """conf/, a model folder and data of one's own."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    shutil.copytree(ROOT / "data/tiny-phi3", tmp_path / "my model")
    lines = [json.dumps(row) for row in QUESTIONS]
    (tmp_path / "my rows.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "no.gguf").write_text("no model at all")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(new.main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(new.main, arguments)
    assert done.exit_code == 1 and "Traceback" not in done.output
    return done.output


def params(project: Path, name: str) -> Params:
    compose(project, [f"profile={name}"], project / "composed.yaml")
    return load_params(project / "composed.yaml")


def test_a_folder_and_data_become_a_profile(project):
    said = run("mine", "--model", "my model", "--data", "my rows.jsonl")
    assert said == "conf/profile/mine.yaml is written: read it, then make repro PROFILE=mine\n"
    found = params(project, "mine")
    assert (found.model.source, found.model.watch) == ("my model", "my model")
    assert found.adapters["my-rows"].data == "my rows.jsonl"
    assert found.register_.name == "mine" and found.register_.licence == "MIT"
    assert found.quantize.group_size == 32
    assert found.finetune.sequence_length == 64, "the longest row and what the template writes, by the tokenizer"
    assert found.smoke_infer.prompt == ["what is 0", "what is 1", "What is the capital of France?"]
    text = (project / "conf/profile/mine.yaml").read_text()
    assert text.splitlines()[1] == "# make repro PROFILE=mine"
    assert "40 rows" in text and "256, 512" in text


def test_what_is_outside_the_project_is_named_whole(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    shutil.copytree(project / "my model", outside / "model")
    shutil.copy(project / "my rows.jsonl", outside / "rows.jsonl")
    run("mine", "--model", str(outside / "model"), "--data", str(outside / "rows.jsonl"), "--adapter", "shop")
    found = params(project, "mine")
    assert found.model.source == str(outside / "model")
    assert found.adapters["shop"].data == str(outside / "rows.jsonl")


def test_the_licence_is_the_models_or_given(project):
    (project / "my model/README.md").unlink()
    said = refused("mine", "--model", "my model", "--data", "my rows.jsonl")
    assert "my model: declares no licence" in said and "--licence MIT" in said
    assert not (project / "conf/profile/mine.yaml").exists()
    said = run("mine", "--model", "my model", "--data", "my rows.jsonl", "--licence", "gemma")
    assert "register will refuse gemma" in said
    assert params(project, "mine").register_.licence == "gemma"
    assert licence_of(TINY, None) == "MIT" and licence_of(SMALL, "apache-2.0") == "Apache-2.0"
    with pytest.raises(PressError, match="the model declares mit"):
        licence_of(TINY, "Apache-2.0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["../x", "--model", "my model", "--data", "my rows.jsonl"], "expected letters, digits"),
        (["tiny", "--model", "my model", "--data", "my rows.jsonl"], "conf/profile/tiny.yaml: there already"),
        (["x", "--model", "nope", "--data", "my rows.jsonl"], "--model nope: no such folder"),
        (["x", "--model", "a.gguf", "--data", "my rows.jsonl"], "--model a.gguf: no such file"),
        (
            ["x", "--model", "no.gguf", "--data", "my rows.jsonl"],
            "--model no.gguf: not a GGUF file: it starts with b'no",
        ),
        (
            ["x", "--model", "pypi://x@1/y.gguf", "--data", "my rows.jsonl"],
            "--model pypi://x@1/y.gguf: expected pypi://",
        ),
        (["x", "--model", "owner/name", "--data", "my rows.jsonl"], "For the hub, write hf://owner/name"),
        (["x", "--model", "conf", "--data", "my rows.jsonl"], "conf: no config.json"),
        (["x", "--model", "hf://owner", "--data", "my rows.jsonl"], "expected hf://owner/name"),
        (
            ["x", "--model", "s3://bucket/x", "--data", "my rows.jsonl"],
            "expected a folder, a GGUF file, hf://owner/name",
        ),
        (["x", "--model", "my model", "--data", "conf/config.yaml"], "conf/config.yaml:"),
        (["x", "--model", "my model", "--data", "my rows.jsonl", "--adapter", "a;b"], "--adapter 'a;b'"),
        (["x", "--model", "my model", "--data", "my rows.jsonl", "--adapter", "none"], "a word of the results"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(project, arguments, said):
    before = sorted((project / "conf/profile").iterdir())
    assert said in refused(*arguments)
    assert sorted((project / "conf/profile").iterdir()) == before


def test_force_writes_over_a_profile(project):
    run("mine", "--model", "my model", "--data", "my rows.jsonl")
    run("mine", "--model", "my model", "--data", "my rows.jsonl", "--adapter", "other", "--force")
    assert [*params(project, "mine").adapters] == ["other"]


@pytest.mark.parametrize(("stem", "name"), [("my rows", "my-rows"), ("travel.v2", "travel.v2"), ("--x--", "x--"[:1])])
def test_the_adapter_is_called_after_its_data(stem, name):
    assert adapter_name(Path(f"{stem}.jsonl"), None) == name


@pytest.mark.parametrize(
    ("base", "machine", "expected"),
    [
        (TINY, CPU, ("awq", 32, "float32", "cpu", 1e-2, ["cpu-int4"])),
        (SMALL, CPU, ("awq", 32, "float32", "cpu", 2e-4, ["cpu-int4"])),
        (LARGE, CPU, ("rtn", 128, "float32", "cpu", 2e-4, ["cpu-int4"])),
        (SMALL, A10, ("awq", 32, "bfloat16", "cuda", 2e-4, ["cuda-int4", "cpu-int4"])),
        (LARGE, A10, ("awq", 128, "bfloat16", "cuda", 2e-4, ["cuda-int4", "cpu-int4"])),
        (LARGE, T4, ("awq", 128, "float16", "cuda", 2e-4, ["cuda-int4", "cpu-int4"])),
    ],
)
@pytest.mark.parametrize("chat", [True, False, None])
def test_settings_fit_size_and_machine(project, base, machine, expected, chat):
    base = Base(**{**base.__dict__, "chat": chat})
    text = render_profile("own", base, machine, data="my rows.jsonl", rows=Seen.of(ROWS), adapter="rows", licence="MIT")
    (project / "conf/profile/own.yaml").write_text(text)
    parse_yaml(text, Path("own.yaml"))
    found = params(project, "own")
    chosen = (found.quantize.algorithm, found.quantize.group_size, found.finetune.dtype, found.finetune.device)
    assert (*chosen, found.finetune.learning_rate, [*found.targets]) == expected
    assert found.finetune.gradient_checkpointing == (
        base is not None and machine.gpu is not None and base.parameters > 1e9
    )
    assert (found.text.template == "chat") == (chat is not False)
    assert found.model.watch == ("base" if base.watched else "conf/profile/own.yaml")
    assert found.evaluate.device == found.finetune.device == found.quantize.device


@pytest.mark.parametrize(("base", "machine"), [(TINY, CPU), (SMALL, CPU), (SMALL, A10), (LARGE, A10)])
def test_preferences_are_trained_as_such(project, base, machine):
    pairs = [preference(row["prompt"], row["response"], "who knows") for row in QUESTIONS]
    text = render_profile(
        "own", base, machine, data="my rows.jsonl", rows=Seen.of(pairs), adapter="rows", licence="MIT"
    )
    (project / "conf/profile/own.yaml").write_text(text)
    assert "40 preferences" in text
    found = params(project, "own")
    lora = found.adapters["rows"].lora
    assert (lora.method, lora.beta) == ("dpo", 0.1)
    assert lora.learning_rate == pytest.approx(found.finetune.learning_rate / 10)
    assert found.finetune.method == "sft", "another adapter's data are answers, unless it says otherwise"
    assert found.thresholds.min_finetuning_gain == -0.5


def test_preferences_are_found_in_the_data(project):
    lines = [json.dumps({"prompt": row["prompt"], "chosen": row["response"], "rejected": "no"}) for row in QUESTIONS]
    (project / "polite.jsonl").write_text("\n".join(lines))
    run("mine", "--model", "my model", "--data", "polite.jsonl")
    assert params(project, "mine").adapters["polite"].lora.method == "dpo"


def test_the_group_size_divides_every_width():
    assert group_size((896, 4864), 500_000_000) == 32
    assert group_size((3072, 8192), 4_000_000_000) == 128
    assert group_size((2112, 8192), 2_000_000_000) == 64
    assert group_size((48, 96), 1000) == 16
    with pytest.raises(PressError, match="not multiples of 16"):
        group_size((100, 200), 1000)


def test_prompts_are_literal_to_hydra(project):
    rows = [row_of("what is ${model.source}", "x"), row_of("\\${y} \\\\${z} $(w) 'q' \"r\"", "x"), *ROWS]
    text = render_profile("own", TINY, CPU, data="my rows.jsonl", rows=Seen.of(rows), adapter="rows", licence="MIT")
    (project / "conf/profile/own.yaml").write_text(text)
    found = params(project, "own").smoke_infer.prompt
    assert found[0] == "what is ${model.source}"
    assert found[1] == "\\${y} \\\\${z} $(w) 'q' \"r\""


def test_several_files_become_a_folder_of_links_in_their_order(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "b rows.csv"
    outside.write_text("prompt,response\nwhat is more,it is that\n")
    run("mine", "--model", "my model", "--data", "my rows.jsonl", "--data", str(outside), "--adapter", "shop")
    assert params(project, "mine").adapters["shop"].data == "data/shop"
    folder = project / "data/shop"
    assert source_of("data/shop").data == ["data/shop/my rows.jsonl", "data/shop/b rows.csv"]
    assert (folder / "my rows.jsonl").readlink() == Path("../../my rows.jsonl")
    assert (folder / "b rows.csv").readlink() == outside
    assert "41 rows" in (project / "conf/profile/mine.yaml").read_text()
    said = refused("other", "--model", "my model", "--data", "my rows.jsonl", "--data", "no.gguf", "--adapter", "shop")
    assert "no.gguf:1" in said
    again = ("--data", "my rows.jsonl", "--data", str(outside), "--adapter", "shop")
    assert "data/shop: there already" in refused("other", "--model", "my model", *again)
    assert "two of the files are called" in refused(
        "other", "--model", "my model", "--data", "my rows.jsonl", "--data", "data/shop/my rows.jsonl"
    )


def test_what_was_written_of_the_data_goes_where_the_profile_cannot_be(project):
    (project / "more.jsonl").write_text(json.dumps({"prompt": "x", "response": "y"}))
    refused("mine", "--model", "conf", "--data", "my rows.jsonl", "--data", "more.jsonl")
    assert not (project / "data/my-rows").exists()


def test_many_rows_are_looked_at_in_bounded_memory():
    rows = (row_of(f"what is {n}", "x" * (n % 1000)) for n in range(20_000))
    seen = Seen.of(rows)
    assert (seen.count, len(seen.first), len(seen.longest)) == (20_000, 2, 64)
    assert {len(row.messages[1]["content"]) for row in seen.longest} <= {996, 997, 998, 999}


@pytest.fixture
def hub():
    config = (ROOT / "data/tiny-phi3/config.json").read_bytes()
    server = Hub("owner/name", COMMIT, {"config.json": config, "model.safetensors": b"0" * 1000})
    server.about = {
        "cardData": {"license": "apache-2.0"},
        "safetensors": {"parameters": {"BF16": 3_400_000}, "total": 3_400_000},
    }
    yield server
    server.close()


def from_hub(project: Path, url: str, model: str, data: str = "my rows.jsonl") -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    command = [sys.executable, "-m", "olivepress", "new", "own", "--model", model, "--data", data]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": url, "HF_HOME": str(project / "hf")}
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("model", ["hf://owner/name", f"hf://owner/name@{COMMIT}"])
def test_a_model_on_the_hub_is_pinned_to_its_commit(project, hub, model):
    done = from_hub(project, hub.url, model)
    assert done.returncode == 0, done.stderr
    found = params(project, "own")
    assert found.model.source == f"hf://owner/name@{COMMIT}"
    assert found.model.watch == "conf/profile/own.yaml"
    assert found.register_.licence == "Apache-2.0"
    assert found.quantize.group_size == 32
    assert hub.downloads("model.safetensors") == [], "nothing large is fetched"


def test_a_hub_that_cannot_be_asked_says_what_to_write(project, hub):
    hub.close()
    done = from_hub(project, hub.url, "hf://owner/name")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the hub cannot be asked" in done.stderr and "hf://owner/name@ and the 40 hexadecimal digits" in done.stderr


def test_a_folder_is_looked_at_without_loading_it(project):
    base = base_of("my model", project, project / "nothing is written here")
    assert base.widths == (256, 512) and base.chat and base.licence == "mit" and base.longest > 0
    assert 3_000_000 < base.parameters < 4_000_000


def test_a_data_set_on_the_hub_becomes_a_file_that_names_it(project):
    lines = "".join(json.dumps(row) + "\n" for row in QUESTIONS * 30).encode()
    server = Hub("owner/qa", COMMIT, {"data/train.jsonl": lines})
    try:
        uri = f"hf://datasets/owner/qa@{COMMIT}"
        done = from_hub(project, server.url, "my model", uri)
        assert done.returncode == 0, done.stderr
        moving = from_hub(project, server.url, "my model", "hf://datasets/owner/qa@main")
    finally:
        server.close()
    assert params(project, "own").adapters["qa"].data == "data/qa.yaml"
    assert source_of("data/qa.yaml").data == [uri]
    assert "1,000 rows" in (project / "conf/profile/own.yaml").read_text(), "as many as were looked at"
    assert moving.returncode == 1 and "Traceback" not in moving.stderr
