"""The command line: one entry, every tool in it, nothing heavy before a tool is called."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import olivepress
from olivepress import cli
from olivepress.core.errors import PressError
from olivepress.core.extras import extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.main, words, prog_name="olivepress")
    return done.exit_code, done.output


# --- the tree of commands


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_subcommand_has_help(name):
    status, text = run(*name.split(), "--help")
    assert status == 0, text
    assert text.startswith(f"Usage: olivepress {name} ")


def test_help_lists_every_subcommand_with_its_line():
    status, text = run("--help")
    assert status == 0
    for name, entry in cli.COMMANDS.items():
        group, _, rest = name.partition(" ")
        if rest:
            assert f"  {group} " in text
            assert f"  {rest} " in run(group, "--help")[1]
            assert entry[1].split(";")[0].split()[0] in run(group, "--help")[1]
        else:
            assert re.search(rf"^  {name} +{re.escape(entry[1].split()[0])}", text, re.M)
    assert {name.partition(" ")[0] for name in cli.COMMANDS if " " in name} == set(cli.GROUPS)


def test_the_version_is_the_packages():
    assert run("--version") == (0, f"olivepress, version {olivepress.__version__}\n")


@pytest.mark.parametrize("words", [["caht"], ["release", "mke"]])
def test_a_word_that_is_no_command_is_named(words):
    status, text = run(*words)
    assert status == 2
    assert f"No such command '{words[-1]}'" in text


def test_every_module_with_a_command_is_in_the_table():
    """No tool is left that only `python -m` would reach."""
    reached = {entry[0].partition(":")[0] for entry in cli.COMMANDS.values()}
    for path in sorted((ROOT / "olivepress").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        # a stage starts the one as a process of its own when it fails, `olivepress repro` the other in DVC's place
        assert path.name in ("restore.py", "dvc_start.py") or 'if __name__ == "__main__"' not in text, path
        if re.search(r"^@click\.command\(", text, re.M):
            assert module in reached, path


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["data", "head", "data/travel.jsonl"], 0, "5 of 368 rows of data/travel.jsonl"),
        (["--version"], 0, f"olivepress, version {olivepress.__version__}"),
        (["convert-adapter", "--help"], 0, "Usage: python -m stages.convert_adapter"),
        (["echo", "a command"], 0, "a command"),
        (["quantise"], 127, "quantise: neither a stage (auto-opt"),
    ],
)
def test_the_containers_entry_takes_stages_subcommands_and_commands(words, status, said, tmp_path):
    """The script itself, with the container's two folders elsewhere."""
    script = (ROOT / "docker/entrypoint.sh").read_text(encoding="utf-8")
    script = script.replace("scratch=/scratch", f"scratch={tmp_path}").replace("/repo", str(ROOT))
    done = subprocess.run(["bash", "-c", script, "olivepress", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_help_and_load_import_nothing_heavy():
    code = (
        "import sys, olivepress, olivepress.cli; assert olivepress.load; "
        "olivepress.cli.main(['--help'], standalone_mode=False); "
        "print([name for name in sys.modules if name in ('torch', 'transformers', 'dvc', 'olive', 'numpy', 'yaml', "
        "'onnxruntime', 'onnxruntime_genai', 'azure')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- what is not installed


def test_a_missing_package_is_an_error_that_names_its_extra(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "broken", ("olivepress.core.no_such_thing:main", "", "runtime"))
    assert isinstance(CliRunner().invoke(cli.main, ["broken"]).exception, ModuleNotFoundError)  # a bug is a traceback

    @click.command()
    def main() -> None:
        import no_such_package  # noqa: F401

    module = type(sys)("olivepress.core.needy")
    module.main = main
    monkeypatch.setitem(sys.modules, "olivepress.core.needy", module)
    for name in ("needy", "azure needy"):
        monkeypatch.setitem(cli.COMMANDS, name, ("olivepress.core.needy:main", "", "azure"))
        status, text = run(*name.split())
        assert status == 1
        assert text.startswith("Error: no_such_package is not installed. It comes with olivepress[azure]: pip install")


def test_the_runtime_without_its_extra_says_what_to_install(monkeypatch, tmp_path):
    config = '{"model": {"context_length": 8, "vocab_size": 9, "pad_token_id": 0, "decoder": {}}}'
    (tmp_path / "genai_config.json").write_text(config)
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    from olivepress.runtime.genai import Model

    with pytest.raises(PressError, match=r"onnxruntime_genai is not installed\. It comes with olivepress\[runtime\]"):
        Model(tmp_path, {}, template="chat")


def test_another_error_passes_through():
    with pytest.raises(ValueError, match="as it was"), extra("runtime"):
        raise ValueError("as it was")


# --- the extras


def names(requirements: list[str]) -> dict[str, Requirement]:
    found = {canonicalize_name(Requirement(line).name): Requirement(line) for line in requirements}
    found.pop("olivepress", None)  # an extra within an extra
    return found


BASE = names(PROJECT["dependencies"])
EXTRAS = {name: names(lines) for name, lines in PROJECT["optional-dependencies"].items()}
CUDA_ONLY = EXTRAS.pop("runtime-cuda")
WEBGPU_ONLY = EXTRAS.pop("runtime-webgpu")
for never_run in ("runtime-directml", "runtime-tensorrt-rtx"):  # of devices that nothing is locked or run for
    EXTRAS.pop(never_run)
CLUSTER_ONLY = EXTRAS.pop("cluster")
LOCK = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / "requirements.txt").read_text(), re.M))


def wanted() -> dict[str, Requirement]:
    lines = (line.partition(" #")[0].strip() for line in (ROOT / "requirements.in").read_text().splitlines())
    return names([line for line in lines if line and not line.startswith("#")])


@pytest.mark.parametrize("name", wanted())
def test_what_the_pipeline_asks_for_is_in_exactly_one_extra(name):
    places = [extra for extra, requirements in {"": BASE, **EXTRAS}.items() if name in requirements]
    assert len(places) == 1, places
    ours = {"": BASE, **EXTRAS}[places[0]][name]
    theirs = wanted()[name]
    assert ours.extras == theirs.extras
    assert ours.specifier.contains(LOCK[name], prereleases=True)
    if theirs.specifier:
        assert all(ours.specifier.contains(part.version) for part in theirs.specifier)


def test_no_extra_asks_for_what_the_lock_lacks():
    for requirements in (BASE, *EXTRAS.values()):
        for name, requirement in requirements.items():
            assert requirement.specifier.contains(LOCK[name], prereleases=True), name


def test_the_cuda_runtime_is_what_the_cuda_image_has():
    image = names(re.findall(r"^onnxruntime.*", (ROOT / "docker/requirements-cuda12.in").read_text(), re.M))
    for name, requirement in image.items():
        assert str(CUDA_ONLY[name]) == str(requirement)
    assert CUDA_ONLY.keys() - image.keys() == EXTRAS["runtime"].keys() - {"onnxruntime", "onnxruntime-genai"}


def test_the_webgpu_runtime_is_what_make_webgpu_installs_over_the_lock():
    over = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / "requirements-webgpu.txt").read_text(), re.M))
    assert set(over) == {"onnxruntime", "onnxruntime-ep-webgpu"}
    assert WEBGPU_ONLY.keys() == EXTRAS["runtime"].keys() | over.keys()
    for name, requirement in WEBGPU_ONLY.items():
        assert requirement.specifier.contains({**LOCK, **over}[name]), name


def test_the_clusters_ray_is_what_make_setup_cluster_installs_over_the_lock():
    over = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / "requirements-cluster.txt").read_text(), re.M))
    assert str(CLUSTER_ONLY["ray"].specifier) == f"=={over['ray']}"
    assert not over.keys() & LOCK.keys()


def test_the_runtime_needs_neither_torch_nor_dvc_and_the_card_names_its_versions():
    from olivepress.register.model_card import RUNTIME

    assert set(EXTRAS["runtime"]) == {"joblib", "numpy", "onnxruntime", "onnxruntime-genai"}
    for name, oldest in RUNTIME.items():
        assert f">={oldest}" in str(EXTRAS["runtime"][name].specifier).split(",")
    assert PROJECT["requires-python"] == ">=3.11"


BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(3))


@pytest.mark.parametrize("name", ["show", "metrics", "report", "plots", "doctor", "repro"])
def test_a_trap_for_dvc_in_the_place_of_the_params_is_refused(tmp_path, monkeypatch, name):
    """DVC reads params.yaml before anything of ours, waits for a pipe and writes aliases out."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("params.yaml")
    assert "params.yaml: not a file" in CliRunner().invoke(cli.main, [name]).stderr
    Path("params.yaml").unlink()
    Path("params.yaml").write_text(BOMB)
    assert "params.yaml:2: b0.0: an alias (*a). Write the value out." in CliRunner().invoke(cli.main, [name]).stderr


def test_make_leaves_dvc_to_commands_that_look_at_the_params_first():
    recipes = re.findall(r"^\t.*\bdvc (\w+)", (ROOT / "Makefile").read_text(), re.M)
    assert set(recipes) == {"remote"}  # which reads its configuration alone
