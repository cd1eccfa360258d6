"""params.yaml: how it is read, what fits its schema, and that every fault is one clear error with file and line."""

import copy
import dataclasses
import functools
import inspect
import operator
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import pytest
import yaml
from ruamel.yaml import YAML

from olivepress.core.errors import PressError
from olivepress.core.params import (
    Finetune,
    Params,
    Quantize,
    Target,
    check_name,
    load_params,
    missing_files,
    problems,
    read_params,
)
from olivepress.core.strict_yaml import MAX_BYTES, parse_yaml, read_yaml
from olivepress.tools.profile import compose

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"params\.yaml:\d+: ")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    """params.yaml of the profile tiny, whatever this checkout has chosen."""
    output = tmp_path_factory.mktemp("params") / "params.yaml"
    compose(ROOT, ["profile=tiny"], output)
    return output.read_text()


@pytest.fixture(scope="module")
def plain(good: str) -> dict[str, Any]:
    """The same as plain data."""
    return YAML(typ="safe").load(good)


@pytest.fixture
def write(tmp_path, good, plain):
    """Write the good params, edited: a function of the plain data, or (old, new) texts."""

    def edited(*changes: Any) -> Path:
        path = tmp_path / "params.yaml"
        text = good
        for change in changes:
            if callable(change):
                data = copy.deepcopy(plain) if text is good else YAML(typ="safe").load(text)
                change(data)
                text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
            else:
                assert change[0] in text, change
                text = text.replace(*change, 1)
        path.write_text(text, encoding="utf-8")
        return path

    return edited


def put(key: str, value: Any):
    """An edit that sets a dotted key."""

    def change(data: dict) -> None:
        *sections, last = key.split("/") if "/" in key else key.split(".")
        for section in sections:
            data = data[section]
        data[last] = value

    return change


def refused(path: Path) -> str:
    """The error for the params at ``path``: one line a problem, each with its place."""
    with pytest.raises(PressError) as caught:
        load_params(path)
    rows = caught.value.message.splitlines()
    assert all(PLACE.search(row) or re.fullmatch(r"  and \d+ more\.", row) for row in (rows[1:] or rows)), rows
    assert all(len(row) < 700 for row in rows)
    assert caught.value.message.isprintable() or "\n" in caught.value.message
    return caught.value.message


# ---- what is good


def test_every_profile_fits(tmp_path):
    for profile in (ROOT / "conf/profile").glob("*.yaml"):
        output = tmp_path / "params.yaml"
        compose(ROOT, [f"profile={profile.stem}"], output)
        params = load_params(output)
        assert params.model_dump(by_alias=True, exclude_unset=True) == read_params(output)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("finetune.alpha", 5),
        ("finetune.learning_rate", 1),
        ("finetune.learning_rate", 1e8),
        ("finetune.target_modules", "q_proj, v_proj"),
        ("finetune.rank_pattern", ""),
        ("finetune.rank_pattern", r"q_proj=8, ^model\.layers\.\d+\.mlp\.(up|down)_proj$=16"),
        ("finetune.alpha_pattern", "q_proj=0.5"),
        ("finetune.method", "dpo"),
        ("adapters.travel.lora", {"method": "dpo", "beta": 0.3, "learning_rate": 1e-5}),
        ("adapters.travel.lora", {}),
        ("adapters.travel.lora", {"steps": 5, "learning_rate": 1e-3, "rank": 1024}),
        ("adapters.travel.data", 'data/of mine/it\'s "odd" $(x) `y` ü.jsonl'),
        ("adapters.travel.data", "/elsewhere/rows.jsonl"),
        ("adapters.travel.data", "../beside/rows.jsonl"),
        ("adapters.travel.data", "modelsx/rows.jsonl"),
        ("adapters.travel.data", f"../{'x' * 255}/rows.jsonl"),
        ("smoke_infer.prompt", ["what is ${model.source}?", "$(touch x) `y` ' \" \\", "a\nb\tc", "x" * 200_000]),
        ("text.template", "<|user|>\\n{prompt}<|end|>\\n{response}"),
        ("text.template", 'it\'s $(x) `y` "z" {{}} {prompt} {response}'),
        ("azure.publish.azure_version", 3),
        ("register.licence", "Apache-2.0 OR MIT"),
        ("model", {"source": "hf://owner/name@main", "watch": "conf/profile/x.yaml"}),
        ("model", {"source": "azureml://registries/r/models/m/versions/1", "watch": "params.yaml"}),
        ("model", {"source": "data/tiny-phi3", "watch": "./data/tiny-phi3/"}),
        ("model", {"source": "my model.gguf", "watch": "my model.gguf"}),
        ("model", {"source": f"pypi://a-b.c@1!2.0+x/d e/f.gguf#sha256={'0' * 64}", "watch": "params.yaml"}),
        ("targets.cpu-int4.lora_inputs", "attention"),
        ("targets.cpu-int4.lora_operator", True),
        ("targets.cpu-int4.lora_operator", False),
        ("targets.cpu-int4.lora_operator", "both"),
        ("targets.cpu-int4.kv_cache", "float16"),
        ("targets.cpu-int4.kv_cache", "float32"),
        ("quantize.average_bits", 0),
        ("quantize.distill_steps", 0),
        ("thresholds.min_finetuning_gain", -1),
        ("quantize.seed", 2**32 - 1),
    ],
)
def test_what_fits(write, key, value):
    assert load_params(write(put(key, value)))


def test_processes_go_with_parallel(write):
    many = [put("finetune.processes", 4), put("finetune.parallel", "ddp"), put("finetune.batch_size", 8)]
    assert load_params(write(*many)).finetune.processes == 4
    assert "finetune.parallel: found none with 4 processes" in refused(write(many[0], many[2]))
    assert "finetune.parallel: found fsdp with 1 processes" in refused(write(put("finetune.parallel", "fsdp")))
    assert "finetune.batch_size: found 6, expected a multiple of the 4" in refused(
        write(*many, put("finetune.batch_size", 6))
    )
    said = refused(write(*many, put("adapters.travel.lora.batch_size", 3)))
    assert "adapters.travel.lora.batch_size: found 3" in said


def test_the_parts_of_a_step_are_of_one_size(write):
    parts = [put("finetune.gradient_accumulation_steps", 4), put("finetune.batch_size", 8)]
    assert load_params(write(*parts)).finetune.batch_size == 8
    said = refused(write(*parts, put("finetune.batch_size", 6)))
    assert "finetune.batch_size: found 6, expected a multiple of 4, its parts: processes times" in said


@pytest.mark.parametrize(("name", "value"), [("packing", True), ("train_on", "all"), ("processes", 2)])
def test_preferences_are_trained_on_in_one_process_and_one_way(write, name, value):
    for section in ("finetune", "adapters.travel.lora"):
        said = refused(write(put(f"{section}.method", "dpo"), put(f"{section}.{name}", value)))
        assert re.search(rf"{section}\.{name}: found .*{str(value).lower()}.* with method dpo, expected", said)


# ---- one reading


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-2", 0.01), ("5e-2", 0.05), ("1.5e3", 1500.0), ("0.01", 0.01), ("1_0", 10), ("0x10", 16), ("'no'", "no")],
)
def test_what_is_read_is_what_dvc_reads(tmp_path, text, value):
    path = tmp_path / "params.yaml"
    path.write_text(f"a: {text}\n")
    assert read_params(path) == {"a": value} == YAML(typ="safe").load(path.read_text())


@pytest.mark.parametrize("text", ["012", "0o20", "020", "no", "yes", "on", "Off", "1:30", "08", "190:20:30.15"])
def test_what_the_versions_of_yaml_read_differently_is_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(f"x: 1\na:\n  b: {text}\n")
    with pytest.raises(PressError, match=rf"params\.yaml:3: a\.b: {text} is .* to YAML 1\.2 and .* to 1\.1"):
        read_params(path)


def test_every_reader_of_params_is_that_one():
    for folder in ("olivepress", "stages"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"safe_load\(.*params", path.read_text()), path


# ---- what is no plain YAML

BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> theirs\n", r":2: a merge conflict is not resolved"),
        (b"a:\n\tb: 1\n", r":2: .*a tab; YAML is indented with spaces"),
        (b"a:\n  b: 1\n \tc: 1\n", r":3: .*a tab"),
        (
            b"a: [\n  x\n  ? y]\n",
            r":3: not valid YAML: expected ',' or '\]', but got '\?'",
        ),
        ("a: 1\n".encode("utf-16"), r":1: UTF-16 with a byte order mark. Save it as UTF-8"),
        (b"\xef\xbb\xbfa: 1\n", r":1: UTF-8 with a byte order mark"),
        (b"a: 1\nb: \xff\n", r":2: not UTF-8 \(byte 0xff\)"),
        (b"a: 1\nb: \x00\n", r":2: a character that is not text \(\\x00\)"),
        (b"a: 1\nb: \x1b[2J\n", r":2: a character that is not text"),
        (b"a: !!python/object/apply:os.system [echo]\n", r":1: a: a tag \(.*python/object"),
        (b"a: !!str 5\n", r":1: a: a tag"),
        (b"!!python/name:os.system a: 1\n", r":1: .*a tag"),
        (BOMB.encode(), r":2: b\.0: an alias \(\*a\)"),
        (b"a: 1\nb: 2\na: 3\n", r":1: a: there twice, in the lines 1 and 3"),
        (b"a: {b: 1, b: 2}\n", r":1: a\.b: there twice"),
        (b"a: 1\n---\nb: 2\n", r":2: a second document"),
        (b"%YAML 1.1\n---\na: 1\n", r": a % directive"),
        (b"1: 2\n", r":1: 1: a key is 1, expected text"),
        (b"null: 2\n", r":1: null: a key is nothing, expected text"),
        (b"? [a, b]\n: 1\n", r":1: a key: a key is a list"),
        (b"a: 2024-13-45\n", r":1: a: '2024-13-45' means nothing here"),
        (b"a: " + b"9" * 5000, r":1: a: a number of 5,000 characters"),
        (b"a: <<\n", r":1: a: '<<' means nothing"),
        (b'a: "\\ud83d\\ude00"\n', r":1: half of a surrogate pair \(\\ud83d\)"),
        (b'a: 1\n"\\uD800":\n', r":2: half of a surrogate pair \(\\ud800\)"),
        (b"a:\n  b: 1\n  <<: {c: 2}\n", r":3: a\.<<: a merge key. Write the values out"),
        (b"a: 1\n<<: [{b: 2}, {c: 3}]\n", r":2: <<: a merge key"),
        (b'a: 1\nb: "x"\nc: "\\UFFFFFFFF"\n', r":3: not valid YAML: .*what is no character"),
        (b"a: [1, 2\n", r":\d: not valid YAML"),
        (b"a: 'x\n", r":\d: not valid YAML"),
        (b"a: b: c\n", r":1: not valid YAML"),
        (b"@a: 1\n", r":1: not valid YAML"),
        (b"", r":1: found nothing, expected sections"),
        (b"- 1\n", r":1: found a list, expected sections"),
        (b"text\n", r":1: found the text 'text', expected sections"),
        (b"a: " + b"[" * 200_000, r":1: nested more than 16 deep"),
        (b"".join(b"  " * level + b"x:\n" for level in range(300)), r":\d+: nested more than 16 deep"),
        (b"- " * 50_000, r":1: nested more than 16 deep"),
        (b"a:\n" + b"- x\n" * 6_000, r":\d+: more than 5,000 values"),
        (b"a" * (MAX_BYTES + 1), r": more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_plain_yaml_is_one_line_with_its_place(tmp_path, content, said):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(PressError, match=r"params\.yaml(:|" + said + ")") as caught:
        read_params(path)
    assert re.search(said, caught.value.message), caught.value.message


def test_no_file_and_no_plain_file(tmp_path):
    for path, said in ((tmp_path / "none.yaml", "not there"), (tmp_path, "not a file")):
        with pytest.raises(PressError, match=said):
            load_params(path)


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_a_mapping_or_one_error(tmp_path, good, seed):
    """Twenty times thirty: noise, noise of YAML's own characters, and the good params with places broken."""
    draw = random.Random(seed)
    path = tmp_path / "params.yaml"
    marks = [
        *"\n\n {}[]>'\"#~\\%@`é\u2028=x0\t",
        "\n ",
        "- ",
        ": ",
        "&a ",
        "*a",
        "!!x ",
        "? ",
        "1e",
        "0o7",
        "no",
        "---\n",
        ".nan",
    ]
    for _ in range(30):
        kind = draw.randrange(3)
        if kind == 0:
            content = draw.randbytes(draw.randrange(200))
        elif kind == 1:
            content = "".join(draw.choices(marks, k=draw.randrange(60))).encode()
        else:
            text = bytearray(good.encode())
            for _ in range(draw.randrange(1, 8)):
                place = draw.randrange(len(text))
                text[place : place + draw.randrange(4)] = draw.choice(marks).encode()
            content = bytes(text)
        path.write_bytes(content)
        for read in (read_params, load_params):
            try:
                found = read(path)
            except PressError as error:
                assert "params.yaml" in error.message
            else:
                assert isinstance(found, dict | Params)
                if isinstance(found, dict):
                    assert repr(found) == repr(YAML(typ="safe").load(content.decode()))


# ---- what does not fit the schema

HOSTILE = [
    "x; touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a|b",
    "a&b",
    "a\ntouch PWNED",
    "' ; x ; '",
    "a b",
    'a"b',
    "a\\b",
]
NEVER_RUN = {
    **{"precision": "int4", "lm_head": "int4", "embedding": "float", "activations": "float16"},
}
WEBGPU = {
    **{"provider": "WebGpuExecutionProvider", "precision": "int4", "lm_head": "int8", "activations": "float32"},
}
ELSEWHERE = ["a/b", "/x", "..", ".", ".x", "-x", "--help", "~", "", "ä", "x" * 65, "a@b", "a:b", "${a}", "a*", "a=b"]
RESERVED = ["none", "general", "base", "None", "x.dvc", "dvc.yaml", "dvc.lock"]


@pytest.mark.parametrize("name", [*HOSTILE, *ELSEWHERE, *RESERVED])
@pytest.mark.parametrize("section", ["adapters", "targets"])
def test_names_that_a_shell_a_path_or_the_results_would_take_for_something_else(write, section, name):
    def rename(data: dict) -> None:
        first = next(iter(data[section]))
        data[section][name] = data[section].pop(first)
        if section == "adapters":
            data["shipped"]["adapter"] = [*data[section]]

    assert re.search(rf"{section}\.", refused(write(rename)))
    with pytest.raises(ValueError, match=r"."):
        check_name(name)


@pytest.mark.parametrize("name", ["travel", "a.b", "a_b-c", "1", "_x", "x" * 64, "Travel2"])
def test_names_that_are_fine(name):
    assert check_name(name) == name


@pytest.mark.parametrize("value", [5, "x", None, [], {}, [1], True, 1.5])
@pytest.mark.parametrize("section", [*(field.alias or name for name, field in Params.model_fields.items())])
def test_a_section_that_is_something_else(write, section, value):
    assert f": {section}" in refused(write(put(section, value)))


def leaves(data: Any, key: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(data, dict):
        return [leaf for name, value in data.items() for leaf in leaves(value, (*key, name))]
    return [key]


def test_every_value_has_a_type_and_every_key_is_known_and_needed(write, plain):
    typed = {("finetune",): Finetune, ("quantize",): Quantize, ("targets", "cpu-int4"): Target}
    optional = {
        (*section, name)
        for section, model in typed.items()
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    keys = list(leaves(plain))

    def each(change: Callable[[dict, str], None], some: list[tuple[str, ...]]) -> str:
        """What is said of params in which ``change`` (the key's section, its last part) was done to some keys."""

        def changed(data: dict) -> None:
            for *sections, last in some:
                change(functools.reduce(operator.getitem, sections, data), last)

        return refused(write(changed))

    # nine at once, since 20 problems are told: reading params takes longer than checking them
    for some in (keys[first : first + 9] for first in range(0, len(keys), 9)):
        for value in ({}, {"x": 1}, None, [[1]], float("nan")):
            said = each(lambda section, last, value=value: section.update({last: value}), some)
            assert [key for key in some if ".".join(key) not in said] == []
        needed = [k for k in some if k not in optional and not (k[:1] == ("adapters",) and k[-2] == "lora")]
        said = each(lambda section, last: section.pop(last), needed)
        assert [key for key in needed if f"{'.'.join(key)}: is missing" not in said] == []
        said = each(lambda section, last: section.update({f"{last}s": section.pop(last)}), needed)
        assert [k for k in needed if f"{'.'.join(k)}s: no such key. Did you mean {k[-1]}?" not in said] == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("targets.cpu-int4.precision", "fp32", "found the text 'fp32', expected int4"),
        ("targets.cpu-int4.precision", "int8", "expected int4"),
        ("targets.cpu-int4.provider", "QNNExecutionProvider", "exports a graph for the CPU for it, without a word"),
        ("targets.cpu-int4.provider", "OpenVINOExecutionProvider", "another one in name alone"),
        ("targets.cpu-int4.provider", "VitisAIExecutionProvider", "Expected CPUExecutionProvider, CUDA"),
        (
            "targets.cpu-int4.provider",
            "CPU",
            "expected CPUExecutionProvider, CUDAExecutionProvider, WebGpuExecutionProvider, DmlExecutionProvider or Nv",
        ),
        ("targets.cpu-int4.lm_head", "fp16", "expected int4, int8, float or mixed"),
        ("targets.cpu-int4.embedding", "int6", "expected float, int8, int4 or mixed"),
        (
            "targets.cpu-int4.lm_head",
            "mixed",
            "'int8' with lm_head the text 'mixed', expected mixed in both",
        ),
        ("targets.cpu-int4.embedding", "mixed", "targets.cpu-int4.embedding: found the text 'mixed' with lm_head"),
        ("quantize.average_bits", 4.5, "found 4.5, expected 0 or at least 4.625: so many 4 bits in groups of 32 take"),
        ("quantize.average_bits", -1, "at least 0"),
        ("quantize.average_bits", "4.5", "expected a finite number"),
        ("quantize.distill_steps", -1, "at least 0"),
        ("quantize.distill_steps", 1.5, "expected a whole number"),
        ("targets.cpu-int4.activations", "int4", "expected float32, float16, bfloat16 or int8"),
        ("targets.cpu-int4.lora_operator", 1, "found 1, expected true, false or both"),
        ("targets.cpu-int4.lora_operator", "all", "found the text 'all', expected true, false or both"),
        ("targets.cpu-int4.cuda_graph", True, "for the CUDAExecutionProvider only"),
        (
            "targets.cpu-int4",
            {
                **{"provider": "CUDAExecutionProvider", "precision": "int4", "lm_head": "int8"},
                **{"activations": "float16", "lora_operator": "both"},
            },
            "targets.cpu-int4.lora_operator: found both, expected true or false: only a CPU gets",
        ),
        ("targets.cpu-int4.kv_cache", "int8", "found the text 'int8', expected float32 or float16"),
        (
            "targets.cpu-int4",
            {
                **{"provider": "CPUExecutionProvider", "precision": "int4", "lm_head": "int8", "activations": "int8"},
                **{"lora_operator": False, "kv_cache": "float16"},
            },
            "targets.cpu-int4.kv_cache: found float16 with lora_operator false, expected float32",
        ),
        (
            "targets.cpu-int4",
            {
                **{"provider": "CUDAExecutionProvider", "precision": "int4", "lm_head": "int8"},
                **{"activations": "float16", "kv_cache": "float32"},
            },
            "targets.cpu-int4.kv_cache: found float32, expected float16: a CUDA target computes in it",
        ),
        *(
            ("targets.cpu-int4", {**WEBGPU, key: value}, f"targets.cpu-int4.{key}: found {said}")
            for key, value, said in (
                ("activations", "int8", "int8, expected float16 (real cards) or float32 (SwiftShader)"),
                ("lora_operator", True, "true, expected false: native operators are for the CPU and CUDA"),
                ("lora_operator", "both", "the text 'both', expected false: native operators"),
                ("kv_cache", "float16", "the text 'float16', expected float32: a WebGPU target's cache is what it"),
                ("cuda_graph", True, "true, expected it for the CUDAExecutionProvider only"),
            )
        ),
        *(
            (
                "targets.cpu-int4",
                {**NEVER_RUN, "provider": provider, key: value},
                f"targets.cpu-int4.{key}: found {said}",
            )
            for provider, key, value, said in (
                ("DmlExecutionProvider", "activations", "float32", "float32, expected float16: what a graph for Dml"),
                ("DmlExecutionProvider", "embedding", "int8", "int8, expected float: it documents no quantized lookup"),
                ("DmlExecutionProvider", "lora_operator", True, "true, expected false: native operators are for the"),
                ("DmlExecutionProvider", "kv_cache", "float32", "float32, expected float16"),
                (
                    "DmlExecutionProvider",
                    "exported_only",
                    False,
                    "false, expected true: no stage of this pipeline runs",
                ),
                ("DmlExecutionProvider", "cuda_graph", True, "true, expected it for the CUDAExecutionProvider only"),
                ("NvTensorRTRTXExecutionProvider", "lm_head", "int8", "int8, expected int4 or float: TensorRT takes"),
                (
                    "NvTensorRTRTXExecutionProvider",
                    "activations",
                    "int8",
                    "int8, expected float16: what a graph for Nv",
                ),
            )
        ),
        ("targets.cpu-int4.exported_only", True, "found true, expected false: every machine has a CPU to run it on"),
        ("quantize.bits", [4], "found a list, expected 4 or 8"),
        ("quantize.bits", 8, "awq packs 4 bits"),
        ("quantize.bits", "4", "found the text '4', expected 4 or 8"),
        ("quantize.bits", True, "found true, expected 4 or 8"),
        ("quantize.group_size", 48, "expected 16, 32, 64 or 128"),
        ("quantize.device", 1, "found 1, expected cpu or cuda"),
        ("quantize.device", "cuda:0", "expected cpu or cuda"),
        ("quantize.seed", -1, "a whole number, at least 0"),
        ("quantize.seed", 2**32, "less than 4,294,967,296"),
        ("quantize.samples", 0, "at least 1"),
        ("quantize.sequence_length", 10**30, "at most 1,048,576"),
        ("quantize.zero_point", "yes", "expected true or false"),
        ("finetune.steps", 2.5, "found 2.5, expected a whole number"),
        ("finetune.steps", True, "found true, expected a whole number"),
        ("finetune.steps", "60", "found the text '60', expected a whole number"),
        ("finetune.steps", 10**40, "expected a whole number"),
        ("finetune.steps", 10**400, "a number of 401 characters"),
        ("finetune.learning_rate", 0, "more than 0"),
        ("finetune.learning_rate", "1e-2x", "expected a finite number"),
        ("finetune.learning_rate", float("inf"), "found inf, expected a finite number"),
        ("finetune.learning_rate", float("nan"), "found nan, expected a finite number"),
        ("finetune.dropout", 1, "less than 1"),
        ("finetune.dropout", True, "found true"),
        ("finetune.dtype", "fp16", "expected float32, bfloat16 or float16"),
        ("finetune.target_modules", "q_proj; rm", "the names of layers, joined by commas"),
        ("finetune.parallel", "dp", "expected none, ddp or fsdp"),
        ("finetune.method", "ppo", "expected sft or dpo"),
        ("finetune.beta", 0, "more than 0"),
        ("finetune.train_on", "prompts", "expected answers or all"),
        ("finetune.schedule", "constant_with_warmup", "expected linear, cosine or constant"),
        ("finetune.warmup_ratio", 1, "less than 1"),
        ("finetune.eval_rows", 0, "at least 1"),
        ("finetune.early_stopping", -1, "at least 0"),
        ("finetune.rank_pattern", "q_proj", "'q_proj': expected PATTERN=NUMBER, joined by commas"),
        ("finetune.rank_pattern", "q_proj=0", "expected PATTERN=NUMBER"),
        ("finetune.rank_pattern", "q_proj=2.5", "a rank is a whole number from 1 to 1024"),
        ("finetune.rank_pattern", "q_proj=4, q_proj=8", "q_proj is there twice"),
        ("finetune.rank_pattern", "q_proj=4,\nv_proj=8", "a control character"),
        ("finetune.alpha_pattern", "(a+)+b=2", "'(a+)+b': expected the name of a module"),
        ("finetune.alpha_pattern", {"q_proj": 2}, "found a section, expected a text"),
        ("finetune.use_dora", True, "cannot be set: DoRA (arXiv:2402.09353) also scales the base's weights"),
        ("finetune.bias", "all", "cannot be set: biases that are trained belong to the base"),
        ("finetune.modules_to_save", ["lm_head"], "cannot be set: whole modules of its own would replace"),
        (
            "adapters.travel.lora.alora_invocation_tokens",
            [1],
            "cannot be set: aLoRA (arXiv:2504.12397) acts",
        ),
        ("adapters.travel.lora.loha", True, "cannot be set: LoHa (arXiv:2108.06098)"),
        ("adapters.travel.lora.use_rslora", True, "cannot be set: its name is rslora"),
        ("prepare.held_out", 0, "more than 0 and at most 0.9"),
        ("prepare.held_out", 1, "at most 0.9"),
        ("adapters.travel.lora.rank", 0, "at least 1"),
        ("adapters.travel.lora.rank", None, "found nothing, expected a whole number"),
        ("adapters.travel.lora.r", 4, "no such key"),
        ("adapters.travel.lora.learning_rat", 4, "Did you mean learning_rate?"),
        ("adapters.travel.data", "", "a text of 1 to 4,096 characters"),
        ("adapters.travel.data", "a\nb", r"a control character (\n)"),
        ("adapters.travel.data", ["a.jsonl"], "DVC watches one path: expected a folder that holds the files"),
        ("adapters.travel.data", "hf://datasets/o/n@c", "expected one, data/mine.yaml say, with the line `hub:"),
        ("prepare.similarity", 0, "more than 0 and at most 1"),
        ("prepare.date", "31.1.2026", "expected YYYY-MM-DD, such as 2026-01-31"),
        ("prepare.date", "2026-W05-1", "expected YYYY-MM-DD"),
        ("prepare.date", "2026-02-30", "day is out of range for month"),
        ("adapters.travel.data", "a\x1bb", r"a control character (\x1b)"),
        ("adapters.travel.data", "-rf", "write ./-rf"),
        ("adapters.travel.data", "s3://bucket/x", "a URL"),
        ("adapters.travel.data", "models/base/x.jsonl", "models/ is what the pipeline writes"),
        ("adapters.travel.data", "data/prepared/travel/train.jsonl", "data/prepared/ is what the pipeline writes"),
        ("adapters.travel.data", "data/../models/x.jsonl", "models/ is what the pipeline writes"),
        ("adapters.travel.data", f"{ROOT}/results/x.jsonl", "results/ is what the pipeline writes"),
        ("adapters.travel.data", "data", "it holds data/prepared/, which the pipeline writes"),
        ("adapters.travel.data", ".", "it holds models/, which the pipeline writes"),
        ("quantize.calibration_data", f"../{ROOT.name}/models", "models/ is what the pipeline writes"),
        ("model.watch", "models/base", "models/ is what the pipeline writes"),
        ("adapters.travel.data", "x" * 256, "a name of more than 255 bytes"),
        ("adapters.travel.data", "/dev/zero", "neither a file nor a folder"),
        ("model.source", "..", "it holds this project"),
        ("model.watch", "/", "it holds this project"),
        ("adapters.travel.data", f"../../{ROOT.parent.name}", "it holds this project"),
        ("model.source", "./data/..", "it holds models/, which the pipeline writes"),
        ("shipped.adapter", [], "a list, at least one"),
        ("shipped.adapter", ["travl"], "'travl' is not an adapter. Did you mean travel?"),
        ("shipped.adapter", ["travel", "travel"], "is there twice"),
        ("smoke_infer.prompt", [], "a list, at least one"),
        ("smoke_infer.prompt", [""], "a text of 1 to 1,000,000 characters"),
        ("smoke_infer.prompt", [5], "found 5"),
        ("smoke_infer.prompt", "text", "expected a list"),
        ("smoke_infer.max_new_tokens", "1; touch PWNED", "expected a whole number"),
        ("text.template", "{prompt}", "expected {prompt} and then {response}"),
        ("text.template", "{prompt!r}{response}", "a format or conversion"),
        ("text.template", "{x}{response}", "unknown field {x}"),
        ("text.template", "{prompt}\n{response}", "write a line break as the two characters"),
        ("text.template", "{", "Write a literal brace twice"),
        ("register.name", "a b", "letters, digits"),
        ("register.name", 5, "found 5, expected a text"),
        ("register.version", 1.0, "found 1.0, expected a text"),
        ("register.version", "1.0", "MAJOR.MINOR.PATCH"),
        ("register.version", "01.0.0", "MAJOR.MINOR.PATCH"),
        ("register.version", "1.0.0-..", "MAJOR.MINOR.PATCH"),
        ("register.version", "١.٢.٣", "MAJOR.MINOR.PATCH"),
        ("register.backend", "azure", "expected local or azureml"),
        ("register.allowed_licences", [], "a list, at least one"),
        ("register.allowed_licences", "MIT", "expected a list"),
        ("register.licence", "", "a text of 1 to"),
        ("azure.publish.azure_name", "{version}", "only {name} and {target} are filled in"),
        ("azure.publish.azure_name", "{", "only {name} and {target}"),
        ("azure.publish.azure_name", "{name:99999999999}", "only {name} and {target}"),
        ("azure.publish.azure_name", "{name!r}", "only {name} and {target}"),
        ("model.source", "hf://../name@c", "expected hf://owner/name@commit"),
        ("model.source", "hf://owner/.@c", "expected hf://owner/name@commit"),
        ("model.source", "azureml:name", "expected azureml:NAME:VERSION or azureml://"),
        ("model.source", "azureml://registries/azureml/models/m", "expected azureml:NAME:VERSION or azureml://"),
        ("azure.publish.azure_version", 1.5, "expected a text"),
        ("azure.job.timeout_minutes", 0, "at least 1"),
        ("azure.job.shm_size", "16 GB", "a size such as 16g"),
        ("azure.job.image", "a\nb", "a control character"),
        ("model.source", "hf://owner/name", "expected hf://owner/name@commit"),
        ("model.source", "http://x/y", "unknown scheme"),
        ("model.source", "pypi://a@1/b.gguf", "expected pypi://name@version/path/in/the/wheel.gguf#sha256="),
        ("model.source", f"pypi://a@1/b.bin#sha256={'0' * 64}", "expected pypi://name@version"),
        ("model.source", f"pypi://-a@1/b.gguf#sha256={'0' * 64}", "expected pypi://name@version"),
        ("model.source", f"pypi://a@1/b.gguf#sha256={'g' * 64}", "expected pypi://name@version"),
        ("model.source", f"pypi://a@1 --x/b.gguf#sha256={'0' * 64}", "expected pypi://name@version"),
        ("model.source", "other.gguf", "model.watch: found the text 'data/tiny-phi3', expected the text 'other.gguf'"),
        ("model.source", "data/other", "model.watch: found the text 'data/tiny-phi3', expected the text 'data/other'"),
        ("model.source", "x'\ntouch PWNED\n'", "a control character"),
        ("model.watch", "-x", "write ./-x"),
        ("thresholds.min_same_top_token", 1.1, "at most 1"),
        ("thresholds.max_kl_divergence", -0.1, "at least 0"),
        ("thresholds.max_export_loss_increase", float("-inf"), "expected a finite number"),
        ("remote_code.trust_remote_code", "false", "expected true or false"),
    ],
)
def test_a_value_that_does_not_fit(write, key, value, said):
    message = refused(write(put(key, value)))
    assert said in message
    assert key.rpartition(".")[0] in message or "model.watch" in message


@pytest.mark.parametrize(("setting", "value"), [("average_bits", 5), ("distill_steps", 64)])
def test_what_writes_no_bytes_of_autoawqs(write, setting, value):
    path = write(put(f"quantize.{setting}", value), put("quantize.exact", True))
    assert f"quantize.exact: found true with {setting}, expected false" in refused(path)
    other = write(put(f"quantize.{setting}", value), put("quantize.exact", True), put("quantize.algorithm", "kquant"))
    assert load_params(other)


def test_the_line_is_that_of_the_key(write, good):
    path = write(put("finetune.stepz", 1), put("quantize.bits", 3), put("finetune.steps", "many"))
    lines = path.read_text().splitlines()
    message = refused(path)
    for start in ("  stepz:", "  bits: 3", "  steps: many"):
        (line,) = [number for number, text in enumerate(lines, 1) if text.startswith(start)]
        assert f"params.yaml:{line}: " in message
    assert "3 problems" in message


def test_problems_are_bounded(write):
    many = write(*(put(f"finetune.x{number}", 1) for number in range(50)))
    message = refused(many)
    assert "50 problems" in message and "and 30 more." in message
    assert len(message.splitlines()) == 22


def test_pairs_of_adapter_and_target_that_share_a_name(write):
    def change(data: dict) -> None:
        data["adapters"]["travel-cpu"] = data["adapters"]["cooking"]
        data["targets"]["int4"] = data["targets"]["cpu-int4"]

    assert "travel for cpu-int4 and travel-cpu for int4 would both be called travel-cpu-int4" in refused(write(change))


def test_names_that_differ_by_case_alone(write):
    def change(data: dict) -> None:
        data["adapters"]["Travel"] = data["adapters"]["cooking"]

    assert "adapters.Travel: differs from travel by case alone" in refused(write(change))


def test_what_cannot_be_read_and_what_does_not_fit_come_together(write):
    message = refused(
        write(("seed: 0", "seed: 010"), ("steps: 150", "steps: some"), ("zero_point: true", "zero_point: on"))
    )
    for said in ("quantize.seed: 010 is", "finetune.steps: found the text 'some'", "quantize.zero_point: on is"):
        assert said in message


def test_missing_files_are_named(tmp_path, good):
    path = tmp_path / "params.yaml"
    path.write_text(good)
    found = missing_files(read_params(path), tmp_path)
    files = ["model.watch", "quantize.calibration_data", "evaluate.general_data"]
    assert [line.partition(":")[0] for line in found] == [*files, "adapters.travel.data", "adapters.cooking.data"]
    assert missing_files(read_params(path), ROOT) == []
    for line in found:
        (tmp_path / f"{line.split(' ')[1]}.dvc").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{line.split(' ')[1]}.dvc").touch()
    assert missing_files(read_params(path), tmp_path) == [], "what DVC tracks may be pulled yet"


# ---- the schema and the stages say the same


def options(stage: str) -> dict[str, click.Parameter]:
    module = __import__(f"stages.{stage}", fromlist=["main"])
    return {parameter.opts[0].lstrip("-").replace("-", "_"): parameter for parameter in module.main.params}


@pytest.mark.parametrize(
    ("section", "stage"),
    [("Quantize", "quantize"), ("Finetune", "finetune"), ("Target", "auto_opt"), ("Register", "register")],
)
def test_every_key_is_an_option_of_its_stage_which_takes_what_the_schema_takes(section, stage):
    from olivepress.core import params as schema

    known = options(stage)
    for name, field in getattr(schema, section).model_fields.items():
        parameter = known[name]
        if get_origin(field.annotation) is not None and isinstance(parameter.type, click.Choice):
            assert {str(choice) for choice in get_args(field.annotation)} <= {
                choice.capitalize() if choice in ("true", "false") else choice for choice in parameter.type.choices
            }, name
        if isinstance(parameter.type, click.IntRange | click.FloatRange):
            low = next((getattr(part, "ge", getattr(part, "gt", None)) for part in field.metadata), None)
            assert parameter.type.min is None or (low is not None and low >= parameter.type.min), name


def test_finetune_has_one_default_for_each_key():
    from olivepress.finetune.lora import LoraSettings

    known = options("finetune")
    settings = {field.name: field.default for field in dataclasses.fields(LoraSettings)}
    assert settings.keys() == Finetune.model_fields.keys()
    for name, field in Finetune.model_fields.items():
        if not field.is_required():
            assert known[name].default == field.default, name
            assert settings[name] in (field.default, dataclasses.MISSING), name


def test_the_readers_take_a_path():
    for function in (read_params, load_params, read_yaml):
        assert next(iter(inspect.signature(function).parameters)) == "path"
    assert problems(parse_yaml("a: 1\n", Path("x"))), "and problems are all of them"


@pytest.mark.parametrize("activations", ["float16", "float32"])
def test_a_webgpu_target_computes_in_one_type_without_native_operators(write, activations):
    from olivepress.core.params import ships_operators

    path = write(lambda data: data["targets"].update({"webgpu-int4": {**WEBGPU, "activations": activations}}))
    target = load_params(path).targets["webgpu-int4"]
    assert (target.lora_operator, target.kv_cache) == (False, activations)
    assert not ships_operators(read_params(path)["targets"]["webgpu-int4"])


def test_a_target_that_says_nothing_of_operators_has_two_graphs_on_a_cpu_and_none_on_cuda(write, plain):
    from olivepress.core.params import load_params, ships_operators

    def silent(data: dict) -> None:
        target = data["targets"]["cpu-int4"]
        target.pop("lora_operator", None)
        data["targets"]["cuda-int4"] = {**target, "provider": "CUDAExecutionProvider", "activations": "float16"}

    path = write(silent)
    assert {name: target.lora_operator for name, target in load_params(path).targets.items()} == {
        "cpu-int4": "both",
        "cuda-int4": False,
    }
    targets = read_params(path)["targets"]
    assert {name: ships_operators(target) for name, target in targets.items()} == {"cpu-int4": True, "cuda-int4": False}


@pytest.mark.parametrize(
    ("operators", "cache"), [(None, "float16"), ("both", "float16"), (True, "float16"), (False, "float32")]
)
def test_the_cache_has_16_bits_where_the_operators_are(write, plain, operators, cache):
    def silent(data: dict) -> None:
        target = data["targets"]["cpu-int4"]
        target.pop("kv_cache", None)
        target.pop("lora_operator", None)
        if operators is not None:
            target["lora_operator"] = operators
        data["targets"]["cuda-int4"] = {**target, "provider": "CUDAExecutionProvider", "activations": "float16"}
        data["targets"]["cuda-int4"].pop("lora_operator", None)

    targets = load_params(write(silent)).targets
    assert {name: target.kv_cache for name, target in targets.items()} == {"cpu-int4": cache, "cuda-int4": "float16"}
