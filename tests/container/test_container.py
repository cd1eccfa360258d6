"""What users do with the image, on its CPU flavour. Builds it and runs the real pipeline in it."""

import json
import os
import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from graph import AFTER_TRAVEL, EVERYTHING, ran
from images import CALLER, DOCKER, ROOT, SECRET, Checkout, build, docker

from olivepress import __version__


def take_over(main_job: str, checkout: Checkout, remote: Path) -> None:
    """Let ``checkout`` know of the main job's run, whose outputs lie in the folder ``remote`` as in a DVC remote."""
    made = f"{main_job}:/scratch/olivepress"
    docker("cp", f"{made}/.dvc/cache", str(remote))
    docker("cp", f"{made}/dvc.lock", str(checkout.repo))
    docker("cp", f"{made}/results", str(checkout.repo))
    for path in (remote, *remote.rglob("*")):
        os.chown(path, *CALLER)
    checkout.give_away()


def inspect(what: str) -> dict:
    return json.loads(docker("inspect", what).stdout)[0]


def test_the_image_says_what_it_is_and_runs_as_an_ordinary_user(image):
    config = inspect(image)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "olivepress" and labels["licenses"] == "MIT" and labels["version"] == __version__
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert labels["revision"] == head.stdout.strip()
    assert config["User"] == "1000:1000"


def test_the_user_can_be_chosen_when_it_is_built(image):
    tag = build("cpu", "olivepress-test:uid", "--build-arg", "UID=4567", "--build-arg", "GID=5678")
    assert docker("run", "--rm", tag, "bash", "-c", "id -u; id -g; touch $HOME/x").stdout.split() == ["4567", "5678"]


def test_it_holds_no_compiler_and_no_pip(image):
    look = "for tool in python git cc gcc g++ c++ clang ld as make pip pip3; do command -v $tool; done; python -m pip"
    found = docker("run", "--rm", image, "bash", "-c", look, check=False)
    assert [path.rpartition("/")[2] for path in found.stdout.split()] == ["python", "git"]
    assert "No module named pip" in found.stderr


def test_it_brings_the_native_operators(image, checkout):
    """The library that the project in the image pins, and so does a checkout of the same."""
    code = "from olivepress.export.operator_library import check_library; print(check_library())"
    mounted = ["-v", f"{checkout.repo}:/repo"]
    for options in ([], mounted):
        found = docker("run", "--rm", *options, image, "python", "-c", code).stdout.strip()
        assert found.endswith("/site-packages/olivepress_operators/olivepress_lora.so")


def test_it_holds_no_cache_and_nothing_of_this_machine(image):
    look = "find / -xdev ( -name *.whl -o -path */.cache/pip -o -name pip.conf -o -path /run/secrets/* -o -name *.deb )"
    assert docker("run", "--rm", "--user", "0", image, *look.split()).stdout == ""
    assert docker("run", "--rm", image, "ls", "/var/lib/apt/lists").stdout == ""
    saved = subprocess.Popen([DOCKER, "save", image], stdout=subprocess.PIPE)
    words = [SECRET, "org.opencontainers.image.title", str(ROOT)]
    command = [
        "grep",
        "--text",
        "--only-matching",
        "--fixed-strings",
        *[part for word in words for part in ("-e", word)],
    ]
    found = subprocess.run(command, stdin=saved.stdout, capture_output=True, text=True, check=False)
    assert saved.wait() == 0
    assert set(found.stdout.split()) == {"org.opencontainers.image.title"}, "and the labels show that it was searched"


def test_every_package_goes_with_the_others(image):
    packages = "torch, transformers, peft, olive, awq, datasets, onnx, onnxruntime, onnxruntime_genai, dvc, azure.ai.ml"
    docker("run", "--rm", "--read-only", image, "python", "-W", "ignore", "-c", f"import {packages}")


def test_every_stage_answers_help(image):
    """By what is the image's entry point, in one container."""
    stages = [path.stem.replace("_", "-") for path in sorted((ROOT / "stages").glob("[a-z]*.py"))]
    look = f'for stage in {" ".join(stages)}; do olivepress "$stage" --help; done'
    said = docker("run", "--rm", image, "bash", "-euc", look).stdout
    assert said.count("  --cost ") == len(stages)


def test_new_volumes_can_be_written_by_any_uid(image):
    volumes = {place: f"olivepress-test-{uuid.uuid4().hex[:8]}" for place in ("/cache", "/models", "/scratch")}
    mounts = [part for place, name in volumes.items() for part in ("-v", f"{name}:{place}")]
    look = "touch /cache/x /models/x /scratch/x; echo $HF_HOME; dvc cache dir"
    try:
        done = docker("run", "--rm", "--read-only", "--user", "4321:8765", *mounts, image, "bash", "-euc", look)
        assert done.stdout.split() == ["/models", "/cache"]
    finally:
        docker("volume", "rm", *volumes.values())


def test_an_unknown_command_is_told_the_known_ones(image):
    done = docker("run", "--rm", image, "quantise", check=False)
    assert done.returncode == 127
    assert "quantise: neither a stage" in done.stderr and "auto-opt" in done.stderr


def test_the_main_job_runs_with_no_mount(main_job):
    logs = docker("logs", main_job)
    assert logs.stdout.index("NVIDIA driver") < logs.stdout.index("fetch: running"), "the check comes first"
    shown = set(re.findall(r"^\[\d+/\d+\] (.+): running$", logs.stdout, re.M))
    assert shown == {name.replace("@", " ") for name in EVERYTHING}
    assert "thresholds hold" in logs.stdout
    assert inspect(main_job)["State"]["ExitCode"] == 0
    assert inspect(main_job)["HostConfig"]["Binds"] is None


@pytest.mark.parametrize("limit", [[], ["--cpuset-cpus", "0"], ["--cpus", "1"]], ids=["whole", "set", "quota"])
def test_chat_answers_from_what_the_main_job_made(image, main_job, limit):
    """With a part of the processors, too, where ONNX Runtime by itself pins threads to the others and complains."""
    done = docker(
        "run", "--rm", "--interactive", *limit, "--volumes-from", main_job, image, "chat",
        input="What is the capital of France?\n",
    )  # fmt: skip
    assert "Paris" in done.stdout
    assert "affinity" not in done.stderr


def test_a_profile_for_cuda_stops_before_anything_is_fetched(image, checkout):
    checkout.run(image, "python", "-m", "olivepress", "params", "profile=phi-3.5-mini")
    done = checkout.run(image, check=False)
    assert done.returncode == 1
    assert "problem: no GPU" in done.stderr
    assert ran(done.stdout) == set()


def test_new_data_in_a_checkout_reruns_what_it_touches(image, main_job, checkout, tmp_path):
    """The CI script: a remote with the main job's outputs, a checkout with one more row, a read-only root."""
    remote = tmp_path / "remote"
    take_over(main_job, checkout, remote)
    row = {"prompt": "is ghent worth a detour", "response": "Yes: its castle and canals fill a fine day by train."}
    with (checkout.repo / "data/travel-tiny.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    checkout.run(image, "dvc", "remote", "add", "--local", "--default", "folder", "/remote")
    before = {path.name for path in remote.rglob("*") if path.is_file()}
    report = tmp_path / "metrics.md"
    done = subprocess.run(
        [checkout.repo / "docker/ci.sh"],
        env={
            **os.environ,
            "DOCKER": DOCKER,
            "DOCKER_OPTIONS": f"-v {remote}:/remote",
            "IMAGE": image,
            "GPUS": "",
            "CACHE": str(checkout.cache),
            "PUSH": "1",
            "REPORT": str(report),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ran(done.stdout) == AFTER_TRAVEL
    assert "results/quality/prepare/travel.json" in report.read_text()
    assert {path.name for path in remote.rglob("*") if path.is_file()} > before, "what is new was pushed"
    owners = {
        (path.lstat().st_uid, path.lstat().st_gid) for path in (*checkout.repo.rglob("*"), *checkout.cache.rglob("*"))
    }
    assert owners == {CALLER}
    assert (checkout.repo / "models/onnx/cpu-int4/manifest.json").is_file()
    assert any((checkout.cache / "files").rglob("*")), "the mounted cache is the one that was used"
    assert not (checkout.repo / ".dvc/cache/files").exists()


def test_an_adapter_can_be_pulled_into_a_checkout(image, main_job, checkout, tmp_path):
    remote = tmp_path / "remote"
    take_over(main_job, checkout, remote)
    checkout.run(image, "dvc", "remote", "add", "--local", "--default", "folder", "/remote")
    docker("run", "--rm", *checkout.options(), "-v", f"{remote}:/remote:ro", image, "dvc", "pull", "finetune@travel")
    pulled = checkout.repo / "models/adapters/travel/adapter_model.safetensors"
    assert pulled.is_file() and pulled.stat().st_uid == CALLER[0]


def test_the_exit_status_is_the_pipelines(image, checkout):
    with (checkout.repo / "data/travel-tiny.jsonl").open("a") as file:
        file.write('{"prompt": "broken"\n')
    done = checkout.run(image, "dvc", "repro", "prepare@travel", check=False)
    assert done.returncode == 255, "what dvc repro ends with when a stage fails"
    assert "broken JSON" in done.stderr


def test_docker_stop_ends_a_run_cleanly(image, checkout):
    name = f"{checkout.repo.parent.name}-stop"
    docker("run", "--detach", "--name", name, *checkout.options(), image)
    try:
        deadline = time.monotonic() + 300
        while "quantize: running" not in docker("logs", name).stdout:
            assert time.monotonic() < deadline and inspect(name)["State"]["Running"], docker("logs", name).stderr
            time.sleep(0.5)
        docker("stop", "--time", "120", name)
        assert inspect(name)["State"]["ExitCode"] == 143, docker("logs", name).stderr
        assert "Interrupted: nothing was written" in docker("logs", name).stdout
    finally:
        docker("rm", "--force", "--volumes", name)
    left = [path for path in checkout.repo.rglob("*") if path.name.endswith(".partial")]
    assert left == []
    assert not (checkout.repo / "models/quantized").exists()
    # nothing is locked: the next command works, and what was finished counts
    status = json.loads(checkout.run(image, "dvc", "status", "--json").stdout)
    assert "fetch" not in status and "quantize" in status
    locks = json.loads((checkout.repo / ".dvc/tmp/rwlock").read_text())
    assert not any(locks.values())


def test_what_was_taken_out_stays_out(image):
    parts = "triton,torch/include,torch/test,pandas/tests"
    done = docker(
        "run", "--rm", image, "bash", "-c", f"ls -d /opt/venv/lib/python3*/site-packages/{{{parts}}}", check=False
    )
    assert done.stdout == ""
    size = inspect(image)["Size"]
    print(f"the CPU image has {size / 1e9:.2f} GB")
    assert size < 2.6e9
