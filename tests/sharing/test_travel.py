"""Only what changed travels; what breaks in the middle goes on; what was damaged on the way is not taken."""

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from graph import EVERYTHING, ran
from safetensors.numpy import load_file, save_file
from servers import CountingProxy, S3Server, SshServer
from team import Remote, change, clone, commit, folder_remote, s3_remote, ssh_remote

from olivepress.core.outputs import sha256, sizes

ROOT = Path(__file__).parents[2]
PUSH = (sys.executable, "-m", "olivepress", "remote", "push")
PULL = (sys.executable, "-m", "olivepress", "remote", "pull")
ONNX = "models/onnx/cpu-int4"
BASE = ("models/base", "models/quantized", f"{ONNX}/model")


def hashes(space) -> dict[str, str]:
    return {f"models/{path}": sha256(space.folder / "models" / path) for path in sizes(space.folder / "models")}


def total(space, *paths: str) -> int:
    """Bytes in files and folders."""
    return sum(
        sum(sizes(place).values()) if (place := space.folder / p).is_dir() else place.stat().st_size for p in paths
    )


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[CountingProxy]:
    """Between DVC and the S3 server."""
    between = CountingProxy(s3_server.port)
    yield between
    between.close()


# --- only the change travels


def retrain(space, name: str, seed: int) -> None:
    """Other weights for an adapter, as new data would give: trained ones plus seeded noise, converted for real.

    Training for real is tests/pipeline's; here only the files matter: same sizes, other bytes.
    """
    from olivepress.export.adapter import convert

    folder = space.folder / "models/adapters" / name
    if not folder.exists():
        for stage, entry in yaml.safe_load(space.read("dvc.lock"))["stages"].items():
            if re.search("@travel(-|$)", stage):
                for out in entry["outs"]:
                    source = space.folder / out["path"]
                    place = source.with_name(source.name.replace("travel", name))
                    shutil.copytree(source, place) if source.is_dir() else shutil.copyfile(source, place)
    random = np.random.default_rng(seed)
    weights = load_file(folder / "adapter_model.safetensors")
    noisy = {key: value + random.standard_normal(value.shape, np.float32) * 1e-3 for key, value in weights.items()}
    save_file(noisy, folder / "adapter_model.safetensors", {"format": "pt"})
    row = json.dumps({"input_ids": [seed, seed], "answers": [[1, 2]]})
    with (space.folder / f"data/prepared/{name}/train.jsonl").open("a") as file:
        file.write(row + "\n")
    out = space.folder / ONNX / f"adapters/{name}.onnx_adapter"
    out.unlink(missing_ok=True)
    convert(folder, space.folder / ONNX / "model", out)


def many_adapters(space, count: int) -> list[str]:
    """Give the project ``count`` adapters in place of its two, and record all of it in dvc.lock."""
    names = ["travel", *(f"more{number}" for number in range(1, count))]
    for number, name in enumerate(names[1:]):
        retrain(space, name, seed=100 + number)
    params = yaml.safe_load(space.read("params.yaml"))
    params["adapters"] = {
        name: copy.deepcopy(params["adapters"]["travel"]) for name in names
    }  # YAML aliases are refused
    params["shipped"]["adapter"] = names
    space.write("params.yaml", yaml.safe_dump(params, sort_keys=False))
    space.run(sys.executable, "-m", "olivepress", "prune")
    space.run("dvc", "repro", "--single-item", "check-params")  # which writes each adapter's settings
    record(space)
    return names


def record(space) -> None:
    """register for real (it takes a second), everything else as it lies there, and a commit."""
    space.run("dvc", "commit", "--force")
    space.run("dvc", "repro", "--single-item", "--force", "register@cpu-int4")
    commit(space, "Adapters")


@pytest.mark.slow
def test_new_data_for_one_of_ten_adapters_moves_that_adapter_alone(author, s3_server, proxy, tmp_path):
    s3_remote(s3_server, tmp_path.name, proxy.port).connect(author)
    names = many_adapters(author, 10)
    author.run("dvc", "push")
    pushed_all = proxy.sent
    reader = clone(author, tmp_path / "reader")
    s3_remote(s3_server, tmp_path.name, proxy.port).credentials(reader)
    proxy.reset()
    reader.run("dvc", "pull")
    pulled_all = proxy.received
    assert pushed_all > total(author, *BASE) and pulled_all > total(author, *BASE)

    changed = names[-1]
    retrain(author, changed, seed=7)
    record(author)
    moved = total(
        author,
        f"models/adapters/{changed}",
        f"data/prepared/{changed}",
        f"{ONNX}/adapters/{changed}.onnx_adapter",
        f"{ONNX}/manifest.json",
        f"{ONNX}/README.md",
    )
    others = total(author, *(f"{ONNX}/adapters/{name}.onnx_adapter" for name in names if name != changed))
    proxy.reset()
    author.run("dvc", "push")
    pushed = proxy.sent
    proxy.reset()
    reader.run("git", "pull", "-q")
    reader.run("dvc", "pull")
    pulled = proxy.received
    print(
        f"{len(names)} adapters: push {pushed_all:,} then {pushed:,} bytes, pull {pulled_all:,} then {pulled:,}; "
        f"the adapter's files have {moved:,}, the other adapters' {others:,}"
    )
    assert hashes(reader) == hashes(author)
    # beside the files: HTTP headers, listings, the questions which objects are there
    assert pushed < 1.1 * moved + 64_000
    assert pulled < 1.1 * moved + 64_000


# --- interruptions


def nothing_partial(remote: Path) -> None:
    """Every object in a folder that serves as remote has the bytes that its name says."""
    import hashlib

    for path in (remote / "files/md5").rglob("*"):
        if path.is_file() and not path.name.endswith(".tmp"):
            name = path.parent.name + path.name
            assert hashlib.md5(path.read_bytes()).hexdigest() == name.removesuffix(".dir")


def pull_and_compare(author, remote, folder: Path) -> None:
    """A fresh clone pulls the very same files and has nothing left to run."""
    reader = clone(author, folder)
    remote.credentials(reader)
    reader.run(*PULL)
    assert hashes(reader) == hashes(author)
    assert reader.changed() == set()


def good_so_far(space, whole) -> None:
    """No file in the workspace or the cache of ``space`` is another one than in ``whole``."""
    expected = hashes(whole)
    assert all(expected[path] == digest for path, digest in hashes(space).items())
    cache = space.folder / ".dvc/cache"
    if (cache / "files/md5").exists():
        nothing_partial(cache)


def break_off_and_resume(server, proxy: CountingProxy, remote: Remote, author, folder: Path) -> None:
    """Kill the server in the middle of a push and of a pull; start it again and go on."""
    model = f"{ONNX}/model"  # 4 MB, half of what dies; one output, for each object waits for the server to come back
    proxy.at(2_000_000, server.kill)
    assert author.run("dvc", "push", model, check=False).returncode != 0
    assert server.process.poll() is not None, "the server was to die in the middle"
    server.start()
    author.run("dvc", "push")

    reader = clone(author, folder)
    remote.credentials(reader)
    proxy.at(2_000_000, server.kill)
    assert reader.run("dvc", "pull", model, check=False).returncode != 0
    assert server.process.poll() is not None
    good_so_far(reader, author)
    server.start()
    reader.run(*PULL)
    assert hashes(reader) == hashes(author)
    assert reader.changed() == set()


@pytest.mark.slow
def test_s3_server_killed_while_pushing_and_while_pulling(author, tmp_path):
    server = S3Server(tmp_path / "server")
    proxy = CountingProxy(server.port)
    remote = s3_remote(server, "team", proxy.port)
    remote.environment["AWS_MAX_ATTEMPTS"] = "1"
    remote.connect(author)
    try:
        break_off_and_resume(server, proxy, remote, author, tmp_path / "reader")
    finally:
        server.kill()
        proxy.close()


def test_ssh_server_killed_while_pushing_and_while_pulling(author, tmp_path):
    server = SshServer(tmp_path / "server")
    proxy = CountingProxy(server.port)
    remote = ssh_remote(server, tmp_path, proxy.port)
    remote.connect(author)
    try:
        break_off_and_resume(server, proxy, remote, author, tmp_path / "reader")
        nothing_partial(tmp_path / "storage")
    finally:
        server.kill()
        proxy.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB: less than the project's outputs."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_remote_s_disk_full_while_pushing(author, small_disk, tmp_path):
    remote = folder_remote(small_disk)
    remote.connect(author)
    assert author.run("dvc", "push", check=False).returncode != 0
    nothing_partial(small_disk / "storage")
    grow(small_disk)
    author.run("dvc", "push")
    pull_and_compare(author, remote, tmp_path / "reader")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_own_disk_full_while_pulling(author, small_disk, tmp_path):
    remote = folder_remote(tmp_path)
    remote.connect(author)
    author.run("dvc", "push")
    reader = clone(author, tmp_path / "reader")
    reader.write(".dvc/config.local", f"[cache]\n    dir = {small_disk}/cache\n")
    done = reader.run(*PULL, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"Error: pull: no disk space left for {small_disk}/cache" in done.stderr
    grow(small_disk)
    reader.run(*PULL)
    assert hashes(reader) == hashes(author)


@pytest.fixture
def small(empty_project, small_disk, tmp_path):
    """A function: command -> what it did, in a DVC project of a few lines on the small disk, with a remote."""
    project = small_disk / "project"
    shutil.copytree(empty_project, project)

    def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=check)

    run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    run("dvc", "remote", "modify", "storage", "verify", "true")
    run.project = project
    return run


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("room", [0, 400_000])
def test_a_project_on_a_full_disk_loses_nothing_by_a_pull(small, small_disk, room):
    content = random.Random(0).randbytes(500_000)
    (small.project / "big").write_bytes(content)
    small("dvc", "add", "big")
    small(*PUSH)
    shutil.rmtree(small.project / ".dvc/cache")
    (small.project / "big").unlink()
    size = (shutil.disk_usage(small_disk).used + room) // 4096 * 4096
    subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
    done = small(*PULL, "--run-cache", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no disk space left" in done.stderr
    grow(small_disk)
    small(*PULL, "--run-cache")
    assert (small.project / "big").read_bytes() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_an_earlier_run_whose_outputs_are_gone_is_no_reason_not_to_push(small):
    stage = {"cmd": "mkdir -p out && cp in out/x", "deps": ["in"], "outs": ["out"]}
    (small.project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}))
    for text in ("1", "2"):
        (small.project / "in").write_text(text)
        small("dvc", "repro")
    small("dvc", "gc", "--workspace", "--force")
    assert "1 earlier runs are left out: what they made is not all in this machine's cache" in small(*PUSH).stdout


# --- tampering


def object_of(author, path: str) -> str:
    """The MD5 of a file that lies in the author's workspace."""
    return subprocess.run(["md5sum", author.folder / path], capture_output=True, text=True, check=True).stdout.split()[
        0
    ]


def test_a_tampered_object_is_refused_by_name(author, s3_server, tmp_path):
    remote = s3_remote(s3_server, tmp_path.name)
    remote.connect(author)
    author.run("dvc", "push")
    path = f"{ONNX}/model/model.onnx.data"
    md5 = object_of(author, path)
    place = f"press/{tmp_path.name}/files/md5/{md5[:2]}/{md5[2:]}"
    storage = s3_server.filesystem()
    good = storage.cat(place)
    storage.pipe(place, good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])

    reader = clone(author, tmp_path / "reader")
    remote.credentials(reader)
    done = reader.run(*PULL, check=False)
    assert done.returncode == 1
    assert f"{path}: damaged or tampered with on the remote: press/{tmp_path.name}/files/md5/" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (reader.folder / path).exists()
    good_so_far(reader, author)
    # as the message says: delete it, push again from where the file is, pull
    listing = done.stderr.partition("Delete that object, delete ")[2].split()[0]
    storage.rm([place, listing])
    author.run("dvc", "push")
    reader.run(*PULL)
    assert hashes(reader) == hashes(author)


def test_a_missing_object_is_named(author, tmp_path):
    remote = folder_remote(tmp_path)
    remote.connect(author)
    author.run("dvc", "push")
    path = f"{ONNX}/adapters/travel.onnx_adapter"
    md5 = object_of(author, path)
    (tmp_path / f"storage/files/md5/{md5[:2]}/{md5[2:]}").unlink()
    reader = clone(author, tmp_path / "reader")
    done = reader.run(*PULL, check=False)
    assert done.returncode == 1
    assert f"{path}: not on the remote (" in done.stderr


def test_pull_refuses_a_remote_that_is_not_verified(author, tmp_path):
    folder_remote(tmp_path).connect(author)
    change(author, "verify", "false")
    done = author.run(*PULL, check=False)
    assert done.returncode == 1
    assert "verify is not set" in done.stderr


# --- the run cache


def test_a_colleague_s_run_is_restored_and_not_repeated(author, tmp_path):
    folder_remote(tmp_path).connect(author)
    author.run(*PUSH)
    before = author.read("dvc.lock")
    # the colleague tries another version and pushes the result, but not the commit with its dvc.lock
    text = author.read("params.yaml").replace("version: 0.1.0", "version: 0.2.0")
    author.write("params.yaml", text)
    assert author.repro() == {"check-params", "register@cpu-int4"}
    author.run(*PUSH)
    made = sha256(author.folder / ONNX / "manifest.json")
    author.write("dvc.lock", before)

    reader = clone(author, tmp_path / "reader")
    reader.run("dvc", "pull", "--run-cache")
    assert reader.repro() == set()
    reader.write("params.yaml", text)
    done = reader.run("dvc", "repro", "--pull")
    assert ran(done.stdout) == {"check-params"}, "which always looks itself"
    assert "Stage 'register@cpu-int4' is cached - skipping run" in done.stdout
    assert sha256(reader.folder / ONNX / "manifest.json") == made


def test_without_any_lock_the_whole_pipeline_comes_from_the_run_cache(author, tmp_path):
    folder_remote(tmp_path).connect(author)
    author.run(*PUSH)
    reader = clone(author, tmp_path / "reader")
    reader.run("dvc", "pull", "--run-cache")
    (reader.folder / "dvc.lock").unlink()
    shutil.rmtree(reader.folder / "models")
    shutil.rmtree(reader.folder / "results/quality")
    done = reader.run("dvc", "repro", "--pull")
    assert ran(done.stdout) == {"check-params"}
    assert done.stdout.count("is cached - skipping run") == len(EVERYTHING) - 1
    assert hashes(reader) == hashes(author)
    for path in ("results/quality/evaluate/cpu-int4/travel.json", "results/answers/cpu-int4/travel.json"):
        assert reader.read(path) == author.read(path)
