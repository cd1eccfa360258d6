"""params.yaml, profiles and data set files: read as DVC reads them, or refused; no value of theirs reaches a shell."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import NOTHING, TEXTS, VALUES, changed, damaged

from olivepress.core.errors import PressError
from olivepress.core.params import Params, load_params
from olivepress.data.dataset import source_of
from olivepress.tools import profile

ROOT = Path(__file__).parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
DATA_SETS = st.sampled_from(
    [
        {"files": ["rows.jsonl"], "format": "prompt-response", "columns": {"prompt": "question"}, "bad_rows": "drop"},
        {"hub": "hf://datasets/owner/name@0123456789abcdef0123456789abcdef01234567", "split": "train", "rows": 5},
        {"files": ["rows.jsonl", "more.csv"], "rows": 10},
    ]
)


def as_yaml(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    def text(value: Any, flow: bool, unicode: bool, width: int) -> bytes:
        try:
            said = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=unicode, width=width, sort_keys=False)
        except RecursionError:  # PyYAML's, for what is nested 400 deep
            said = "a: " + "[" * 400
        return said.encode("utf-8", "surrogatepass")

    return st.builds(text, documents, st.sampled_from([False, None, True]), st.booleans(), st.sampled_from([20, 4000]))


def yaml_files(documents: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    valid = as_yaml(documents)
    spelt = st.sampled_from(
        [b"1e-2", b"012", b"0o20", b"no", b"0x1F", b"1_000", b"12:30:45", b".inf", b"~", b"2026-01-01", b"+1", b"1.",
        b"[4]", b"{}", b"null", b"&a 1", b"*a", b"!!int 5", b"!x 5", b"|\n  5", b"'5'", b"<<", b"=", b"? 1"]
    )  # fmt: skip

    def respelt(content: bytes, place: int, value: bytes) -> bytes:
        lines = content.split(b"\n")
        key, colon, _ = lines[place % len(lines)].partition(b": ")
        lines[place % len(lines)] = key + (colon or b": ") + value
        return b"\n".join(lines)

    return st.one_of(
        as_yaml(changed(documents)),
        damaged(valid),
        st.builds(respelt, as_yaml(documents), st.integers(0, 200), spelt),
        as_yaml(VALUES),
        NOTHING,
    )


@given(content=yaml_files(st.just(PARAMS)))
def test_params_are_read_as_dvc_reads_them_or_refused(content, place, answered):
    from dvc.utils.serialize import load_yaml

    path = place / "params.yaml"
    path.write_bytes(content)
    found = answered(load_params, path)
    if isinstance(found, Params):
        read = load_yaml(str(path))
        assert Params.model_validate(read) == found, "the stages are told what DVC reads"
        assert yaml_1_1(path) == read, "and whoever reads by YAML 1.1 reads the same"


def yaml_1_1(path: Path) -> Any:
    """By PyYAML, but for a number such as 1e-2, which is a text to it: those are read as they look."""

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: numbers(item) for key, item in value.items()}
        if isinstance(value, list):
            return [numbers(item) for item in value]
        return value

    class Loader(yaml.SafeLoader):
        pass

    import re

    Loader.yaml_implicit_resolvers = {
        key: list(found) for key, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
    with path.open(encoding="utf-8") as file:
        return numbers(yaml.load(file, Loader))


@given(content=yaml_files(DATA_SETS))
def test_data_sets_are_read_or_refused(content, place, answered):
    (place / "dataset.yaml").write_bytes(content)
    answered(source_of, str(place))
    answered(source_of, str(place / "dataset.yaml"))


# ---- commands


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """A function: params -> every stage's command, as DVC would give it to a shell."""
    from dvc.parsing import DataResolver
    from dvc.repo import Repo
    from dvc.utils.serialize import load_yaml

    folder = tmp_path_factory.mktemp("pipeline")
    for line in ("git init -q", "dvc init -q"):
        subprocess.run(line.split(), cwd=folder, check=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")  # how lists become options

    def commands(content: bytes) -> dict[str, str]:
        (folder / "params.yaml").write_bytes(content)
        with Repo(str(folder)) as repo:
            resolver = DataResolver(repo, str(folder), load_yaml(str(folder / "dvc.yaml")))
            return {name: stage["cmd"] for name, stage in resolver.resolve()["stages"].items()}

    return commands


PLACES = [
    ("register", "name"), ("register", "licence"), ("register", "version"), ("text", "template"),
    ("azure", "publish", "destination"), ("azure", "publish", "azure_name"), ("azure", "publish", "azure_version"),
    ("model", "source"), ("model", "watch"), ("quantize", "calibration_data"), ("evaluate", "general_data"),
    ("adapters", "travel", "data"), ("finetune", "target_modules"), ("finetune", "alpha_pattern"),
    ("finetune", "rank_pattern"), ("prepare", "date"), ("smoke_infer", "prompt", 0),
    ("register", "allowed_licences", 0), ("azure", "job", "image"),
]  # fmt: skip


def put(chosen: list, name: str = "") -> dict:
    """The params with other values in some places, and with one adapter and one target of that name."""
    params = deepcopy(PARAMS)
    for way, value in chosen:
        inside = params
        for key in way[:-1]:
            inside = inside[key]
        inside[way[-1]] = value
    if params["model"]["source"] != PARAMS["model"]["source"] and ":" not in params["model"]["source"]:
        params["model"]["watch"] = params["model"]["source"]
    if name:
        params["adapters"] = {name: params["adapters"]["travel"]}
        params["shipped"] = {"adapter": [name]}
        params["targets"] = {name: params["targets"]["cpu-int4"]}
    return params


def texts() -> st.SearchStrategy:
    """Params whose texts are any that the schema lets through."""
    text = TEXTS | st.text(max_size=12)
    return st.builds(
        put, st.lists(st.tuples(st.sampled_from(PLACES), text), min_size=1, max_size=2), st.just("") | text
    )


def with_each_place(test: Callable[..., None]) -> Callable[..., None]:
    """The test with what a shell would cut, and run, in every place, besides what is drawn."""
    for place in PLACES:
        test = example(params=put([(place, "a b $(x); y")]))(test)
    return test


@settings(max_examples=max(settings().max_examples // 10, 50))  # DVC takes a tenth of a second for each
@with_each_place
@example(params=put([(("register", "licence"), "|")]))
@given(params=texts())
def test_what_the_schema_lets_through_is_what_each_stage_gets(params, pipeline, place):
    """Every command is one stage with its options: as a shell cuts it, no more words, none of them of the shell's."""
    content = yaml.safe_dump(params, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
    path = place / "params.yaml"
    path.write_bytes(content)
    try:
        known = load_params(path)
    except PressError:
        return
    for name, command in pipeline(content).items():
        check_command(name, command, known)


def check_command(name: str, command: str, params: Params) -> None:
    import importlib

    if name.startswith("await-data"):
        key = name.partition("@")[2]
        assert command == f"mkdir -p models/data && echo there > models/data/{key}"
        return
    assert "\n" not in command
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    # a value may be one of them, in quotes
    operators = set(words) & {";", "&", "|", "&&", "||", "<", ">", "(", ")"}
    assert all(f"'{operator}'" in command for operator in operators), words
    assert words == shlex.split(command)
    python, flag, module, *options = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    main = importlib.import_module(module).main
    parser = main.make_parser(main.context_class(main, **main.context_settings))
    given, rest, _ = parser.parse_args(options)
    assert not rest, rest
    expected = {
        "stages.fetch": {"source": params.model.source, "watch": params.model.watch},
        "stages.register": {"name": params.register_.name, "licence": params.register_.licence,
                            "allowed": list(params.register_.allowed_licences),
                            "destination": params.azure.publish.destination,
                            "azure_name": params.azure.publish.azure_name},
        "stages.prepare": {"template": params.text.template, **({"date": day} if (day := params.prepare.date) else {})},
        "stages.quantize": {"calibration_data": params.quantize.calibration_data},
        "stages.finetune": {"target_modules": params.finetune.target_modules},
    }.get(module, {})  # fmt: skip
    for option, value in expected.items():
        assert given.get(option) == value, (name, option)


# ---- profiles


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "params.yaml", folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


PROFILE = yaml.safe_load((ROOT / "conf/profile/tiny.yaml").read_text(encoding="utf-8"))


@settings(max_examples=max(settings().max_examples // 10, 50))
@given(content=yaml_files(st.just(PROFILE)))
def test_profiles_are_composed_or_refused(content, checkout, answered):
    (checkout / "conf/profile/tiny.yaml").write_bytes(content)
    answered(profile.refresh, checkout, "tiny", afresh=True)


@settings(max_examples=max(settings().max_examples // 10, 50))
@given(
    overrides=st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["finetune.steps", "+finetune.x", "~finetune", "profile", "register.name", "", "++a.b"])
            | TEXTS,
            st.sampled_from(["=", "", ":", "=="]),
            TEXTS | st.text(max_size=10) | st.sampled_from(["5", "[1,2]", "{a:1}", "${oc.env:HOME}", "../../evil"]),
        ),
        min_size=1,
        max_size=2,
    ),
)
def test_overrides_are_taken_or_refused(overrides, checkout, answered):
    shutil.copy(ROOT / "conf/profile/tiny.yaml", checkout / "conf/profile/tiny.yaml")
    answered(profile.refresh, checkout, None, tuple(overrides))
