"""Releases: what is checked before, what a version consists of, and that it never changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from copies import copy_tree
from team import RELEASE, commit, make_key, make_model_key, signer

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256, sizes
from olivepress.release.changes import render_changes
from olivepress.release.make import check_gates
from olivepress.release.versions import resolve

ROOT = Path(__file__).parents[2]
TAG = "ft-for-travel@v1.2.0"
PAPERS = "releases/ft-for-travel/1.2.0"
VERIFY = (sys.executable, "-m", "olivepress", "release", "verify", "1.2.0")
RELEASES = (sys.executable, "-m", "olivepress", "release")


def error(done) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def copy_of(space, folder: Path):
    """``space`` with its origin and its DVC remote, for one test to change."""
    copy_tree(space.folder.parent, folder)
    copy = type(space)(folder / "shop")
    copy.run("git", "remote", "set-url", "origin", folder / "origin.git")
    copy.run("dvc", "remote", "modify", "--local", "storage", "url", str(folder / "storage"))
    return copy


@pytest.fixture
def copy(released, tmp_path):
    return copy_of(released, tmp_path / "copy")


@pytest.fixture(scope="session")
def fetched(released, tmp_path_factory):
    """The artifact as a consumer gets it: by name and version, from git and the DVC remote, without the project."""
    folder = tmp_path_factory.mktemp("consumer")
    command = ["dvc", "artifacts", "get", released.folder.parent / "origin.git", "ft-for-travel", "--rev", "v1.2.0"]
    subprocess.run([*command, "--out", "ft-for-travel"], cwd=folder, check=True)
    return folder / "ft-for-travel"


def table(markdown: str) -> list[list[str]]:
    """The cells of a table, its header and the line below included."""
    rows = [line.strip() for line in markdown.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


# --- what a release is


def test_a_release_is_an_annotated_tag_on_origin(released):
    assert f"released ft-for-travel 1.2.0: tag {TAG}, pushed" in released.said
    assert released.run("git", "cat-file", "-t", TAG).stdout == "tag\n"
    origin = released.folder.parent / "origin.git"
    listed = subprocess.run(["git", "ls-remote", origin], capture_output=True, text=True, check=True).stdout
    assert f"refs/tags/{TAG}^{{}}" in listed
    assert released.run("git", "rev-parse", "HEAD").stdout.strip() in listed
    told = released.run("git", "tag", "-n99", "-l", TAG).stdout
    assert ["results/quality/evaluate/cpu-int4/travel.json", "held_out.loss.finetuned"] in [
        row[:2] for row in table(told)
    ]


def test_the_version_reaches_the_manifest_and_nothing_else_is_made_again(released, project):
    before, after = (yaml.safe_load(space.read("dvc.lock"))["stages"] for space in (project, released))
    assert {name for name in after if after[name] != before[name]} == {"check-params", "register@cpu-int4"}
    assert yaml.safe_load(released.read("params.yaml"))["register"]["version"] == "1.2.0"
    assert json.loads(released.read("models/onnx/cpu-int4/manifest.json"))["version"] == "1.2.0"
    composed = released.folder / "params.yaml"
    text = composed.read_text()
    released.run(sys.executable, "-m", "olivepress", "params")
    assert composed.read_text() == text
    assert released.changed() == set()


def test_a_consumer_gets_it_by_name_and_every_sum_is_right(released, fetched):
    assert sha256(fetched / "cpu-int4/model/model.onnx.data") == sha256(
        released.folder / "models/onnx/cpu-int4/model/model.onnx.data"
    )
    sums = released.read(f"{PAPERS}/SHA256SUMS")
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict"], input=sums, text=True, cwd=fetched, check=True)
    assert {line.split("  ")[1] for line in sums.splitlines()} == set(sizes(fetched))


def test_the_consumer_script_of_the_docs_runs(released, fetched):
    page = (ROOT / "docs/using.md").read_text(encoding="utf-8")
    script = page.partition("```python\n")[2].partition("```")[0]
    assert len(script.split("\n")) - script.count("\n\n") == 4  # three lines and the end
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=fetched.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(released.read("results/answers/cpu-int4/travel.json"))
    asked = ("travel", "What is the best thing to see in Chicago?")
    expected = next(answer["text"] for answer in answers if (answer["adapter"], answer["prompt"]) == asked)
    assert done.stdout.strip() == expected.strip()


def test_the_card_shows_the_licence_that_travels_along(fetched):
    text = (fetched / "cpu-int4/model/LICENSE").read_text().strip()
    assert text == (ROOT / "data/tiny-phi3/LICENSE").read_text().strip()
    assert text in (fetched / "cpu-int4/README.md").read_text()


def test_the_sbom_is_valid_and_names_model_data_and_packages(released):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = released.read(f"{PAPERS}/sbom.cdx.json")
    bom = json.loads(text)
    # every tenth package: the validator needs a second for ten of them
    few = {**bom, "components": bom["components"][::10], "dependencies": bom["dependencies"][::10]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(few)) is None
    model = bom["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "ft-for-travel", "1.2.0")
    assert model["licenses"] == [{"license": {"id": "MIT"}}]
    data = released.folder / "models/onnx/cpu-int4/model/model.onnx.data"
    files = {part["name"]: part["hashes"] for part in model["components"]}
    assert files["cpu-int4/model/model.onnx.data"] == [{"alg": "SHA-256", "content": sha256(data)}]
    parts = {part["name"]: part for part in bom["components"]}
    assert parts["data/travel-tiny.jsonl"]["type"] == "data"
    assert parts["onnxruntime"]["licenses"] and parts["onnxruntime"]["purl"].startswith("pkg:pypi/onnxruntime@1.26.0")
    assert not [line for line in text.splitlines() if "file:/" in line or str(ROOT) in line]


def test_the_provenance_names_files_inputs_commands_and_commit(released):
    statement = json.loads(released.read(f"{PAPERS}/provenance.json"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    build = statement["predicate"]["buildDefinition"]
    inputs = {entry["name"]: entry["digest"] for entry in build["resolvedDependencies"]}
    for name in ("dvc.lock", "requirements.txt", "data/travel-tiny.jsonl", "data/tiny-phi3/model.safetensors"):
        assert inputs[name]["sha256"] == sha256(released.folder / name)
    assert inputs["source"]["gitCommit"] == released.run("git", "rev-parse", f"{TAG}~1").stdout.strip()
    assert build["internalParameters"]["commands"]["finetune@travel"].startswith("python -m stages.finetune --model")
    assert build["externalParameters"]["params"]["finetune"]["steps"] == 150


# --- what is refused


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo more >> README.md", "the working tree is not clean (1 changes, such as README.md): commit first"),
        ("git checkout -q --detach", "no branch is checked out"),
        ("git remote remove origin", "there is no remote 'origin'"),
        ("echo >> README.md; git commit -qam typo", "1 commits of"),
        ("git checkout -q -b other", "branch other is not on origin: git push -u origin other"),
        ("git reset -q --hard HEAD~1", "has commits that are not here: git pull"),
        (
            "echo '# x' >> stages/finetune.py; git commit -qam x; git push -q",
            "finetune@travel would run: make repro",
        ),
        ("dvc remote modify storage verify false; git commit -qam x; git push -q", "verify is not set"),
        (
            "echo nosuch==1 >> requirements.txt; git commit -qam x; git push -q",
            "nosuch==1 (not installed)",
        ),
    ],
)
def test_a_release_is_refused_before_anything_is_written(shop, command, expected):
    shop.run("bash", "-ec", command)
    state = shop.run("git", "rev-parse", "HEAD").stdout + shop.run("git", "status", "--porcelain").stdout
    assert expected in error(shop.run(*RELEASE, "1.2.0", check=False))
    assert shop.run("git", "rev-parse", "HEAD").stdout + shop.run("git", "status", "--porcelain").stdout == state
    assert shop.run("git", "tag").stdout == ""


def test_a_version_must_be_one(shop):
    assert "VERSION: '1.2': expected MAJOR.MINOR.PATCH" in error(shop.run(*RELEASE, "1.2", check=False))
    assert "VERSION: '': expected MAJOR.MINOR.PATCH" in error(shop.run(*RELEASE, "", check=False))


@pytest.mark.parametrize(
    ("wanted", "known", "version"),
    [
        ("patch", [], "0.0.1"),
        ("minor", ["1.2.3", "1.2.2"], "1.3.0"),
        ("major", ["1.2.3"], "2.0.0"),
        ("v1.4.0", ["1.2.3"], "1.4.0"),
    ],
)
def test_patch_minor_and_major_count_from_the_newest(wanted, known, version):
    assert resolve(wanted, known) == version


def test_a_metric_that_misses_its_threshold_is_not_released(project, tmp_path):
    shutil.copytree(project.folder / "results", tmp_path / "results")
    params = project.read("params.yaml")
    (tmp_path / "params.yaml").write_text(params)
    check_gates(tmp_path)
    (tmp_path / "params.yaml").write_text(params.replace("min_finetuning_gain: 0.5", "min_finetuning_gain: 99"))
    with pytest.raises(PressError, match="below min_finetuning_gain 99"):
        check_gates(tmp_path)


def test_a_push_that_fails_leaves_no_tag_and_can_be_repeated(shop):
    hook = shop.folder.parent / "origin.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho the server is full >&2\nexit 1\n")
    hook.chmod(0o755)
    assert "the server is full" in error(shop.run(*RELEASE, "1.2.0", check=False))
    assert shop.run("git", "tag").stdout == ""
    hook.unlink()
    assert "released ft-for-travel 1.2.0" in shop.run(*RELEASE, "1.2.0").stdout
    assert shop.run("git", "log", "--oneline", "origin/HEAD..HEAD", check=False).stdout.count("Release") <= 2


# --- it never changes


def test_the_same_bytes_again_change_nothing(copy):
    before = copy.run("git", "for-each-ref").stdout
    assert "released already, with the same bytes: nothing to do" in copy.run(*RELEASE, "1.2.0").stdout
    assert copy.run("git", "for-each-ref").stdout == before


def test_other_bytes_need_another_version(copy):
    text = copy.read("conf/config.yaml").replace("BSD-3-Clause]", "BSD-3-Clause, Zlib]")
    copy.write("conf/config.yaml", text)
    copy.run(sys.executable, "-m", "olivepress", "params")
    assert copy.repro() == {"check-params", "register@cpu-int4"}
    commit(copy, "One more licence")
    copy.run("git", "push", "-q")
    tag = copy.run("git", "rev-parse", TAG).stdout
    said = error(copy.run(*RELEASE, "1.2.0", check=False))
    assert f"1.2.0 is released (tag {TAG}), and models/onnx/cpu-int4/manifest.json differs here" in said
    assert "A released version never changes" in said
    assert copy.run("git", "rev-parse", TAG).stdout == tag
    assert "released ft-for-travel 1.2.1" in copy.run(*RELEASE, "patch").stdout
    changes = copy.read("releases/ft-for-travel/1.2.1/changes.md")
    assert "Against 1.2.0." in changes and "No metric changed." in changes
    assert copy.run("git", "rev-parse", TAG).stdout == tag
    assert "v1.2.1" in copy.run(*RELEASES, "list").stdout


def test_changes_are_the_metrics_side_by_side(copy):
    path = "results/quality/finetune/travel.json"
    metrics = json.loads(copy.read(path))
    metrics["held_out_loss"]["after"] -= 0.25
    before, after = metrics["held_out_loss"]["after"] + 0.25, metrics["held_out_loss"]["after"]
    copy.write(path, json.dumps(metrics))
    text = render_changes(copy.folder, "ft-for-travel", "1.3.0", ("1.2.0", TAG))
    header, _, row = table(text)
    assert header == ["Path", "Metric", TAG, "workspace", "Change"]
    assert row == [path, "held_out_loss.after", f"{before:.6g}", f"{after:.6g}", "-0.25"]


# --- stages


def test_stages(copy, tmp_path):
    assert (
        "is in staging now (tag ft-for-travel#staging#1)" in copy.run(*RELEASES, "promote", "1.2.0", "staging").stdout
    )
    assert "is in staging already" in copy.run(*RELEASES, "promote", "1.2.0", "staging").stdout
    copy.run(*RELEASES, "promote", "v1.2.0", "production")
    assert copy.run(*RELEASES, "list").stdout.split()[::2] == ["v1.2.0", "production,"]
    assert "Allowed stages are" in error(copy.run(*RELEASES, "promote", "1.2.0", "prod", check=False))
    assert "9.9.9 is not released (there: 1.2.0)" in error(
        copy.run(*RELEASES, "promote", "9.9.9", "staging", check=False)
    )
    tags = copy.run("git", "ls-remote", "--tags", "origin").stdout
    assert "ft-for-travel#staging#1" in tags and "ft-for-travel#production#" in tags
    origin = copy.folder.parent / "origin.git"
    command = ["dvc", "artifacts", "get", origin, "ft-for-travel", "--stage", "production", "--out", tmp_path / "got"]
    copy.run(*command)
    assert (tmp_path / "got/cpu-int4/manifest.json").is_file()


# --- verify-release


def test_a_release_verifies(released):
    lines = released.run(*VERIFY).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("ok  signature", "ok  attestations", "ok  inputs", "ok  source", "ok  commands", "ok  files"),
    ]
    assert lines[0] == "ok  signature: good, by press@example.org"


def test_the_signature_over_the_files_is_checked_too(released, fetched, tmp_path):
    key = released.folder.parent / "model-key.pub"
    done = released.run(*VERIFY, "--folder", fetched, "--model-key", key)
    assert done.stdout.splitlines()[-1] == f"ok  model signature: good, by the owner of {key}"
    make_model_key(tmp_path / "other")
    said = error(released.run(*VERIFY, "--folder", fetched, "--model-key", tmp_path / "other.pub", check=False))
    assert "model.sig: does not verify with" in said


def test_who_has_the_files_alone_checks_them_with_model_signings_own_command(released, fetched, tmp_path):
    """In no checkout: the files, the signature, the public key."""
    shutil.copytree(fetched, tmp_path / "files")
    (tmp_path / "model.sig").write_text(released.read(f"{PAPERS}/model.sig"))
    shutil.copy(released.folder.parent / "model-key.pub", tmp_path)
    command = [sys.executable, "-m", "model_signing", "verify", "key", "files", "--signature", "model.sig"]

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--public_key", "model-key.pub"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = verify()
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout + done.stderr
    (tmp_path / "files/cpu-int4/model/more.json").write_text("{}")
    done = verify()
    assert done.returncode != 0
    assert "more.json" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("printf x | dd of=model/model.onnx.data bs=1 seek=99 conv=notrunc", "model/model.onnx.data: SHA-256 is"),
        ("rm adapters/travel.onnx_adapter", "cpu-int4/adapters/travel.onnx_adapter: released, but not there."),
        (
            "cp adapters/travel.onnx_adapter adapters/more.onnx_adapter",
            "more.onnx_adapter: there, but not part",
        ),
        ("sed -i s/MIT/GPL/ manifest.json", "cpu-int4/manifest.json: SHA-256 is"),
        ("touch model/x.gitignore", "cpu-int4/model/x.gitignore: there, but not part of the release"),
        ("mkfifo model/pipe", "'cpu-int4/model/pipe' is not a file"),
        ("ln -sf /etc/hostname model/LICENSE", "'cpu-int4/model/LICENSE' is a link that leaves the release"),
    ],
)
def test_a_changed_artifact_does_not_verify(released, fetched, tmp_path, change, expected):
    folder = tmp_path / "artifact"
    shutil.copytree(fetched, folder)
    assert "ok  files: 16" in released.run(*VERIFY, "--folder", folder).stdout
    subprocess.run(["bash", "-ec", change], cwd=folder / "cpu-int4", check=True, capture_output=True)
    assert expected in error(released.run(*VERIFY, "--folder", folder, check=False))


def forge(space, change: str) -> None:
    """Move the tag to a commit in which ``change``, a shell command, was done to the attestations."""
    space.run("bash", "-ec", f"cd {PAPERS} && {change}")
    commit(space, "Forged")
    space.run("git", "tag", "-f", "-a", "-m", "forged", TAG)


def resign(space, key: Path, purpose: str) -> None:
    forge(space, f"ssh-keygen -q -Y sign -n {purpose} -f {key} - <provenance.json >provenance.json.sig")


def test_without_its_signature_a_release_does_not_verify(copy):
    forge(copy, "rm provenance.json.sig")
    assert "provenance.json.sig: not there, and allowed_signers asks for a signature" in error(
        copy.run(*VERIFY, check=False)
    )


def test_another_one_s_signature_does_not_verify(copy, tmp_path):
    make_key(tmp_path / "other")
    forge(
        copy,
        f"ssh-keygen -q -Y sign -n olive-press-release -f {tmp_path / 'other'} - <provenance.json >provenance.json.sig",
    )
    assert "provenance.json.sig: not made with a key of allowed_signers" in error(copy.run(*VERIFY, check=False))
    (tmp_path / "signers").write_text(signer("somebody@example.org", tmp_path / "other"))
    assert "good, by somebody@example.org" in copy.run(*VERIFY, "--signers", tmp_path / "signers").stdout


def test_a_signature_for_another_purpose_does_not_count(copy, released):
    resign(copy, released.folder.parent / "key", "file")
    assert "does not fit the file" in error(copy.run(*VERIFY, check=False))


def test_a_forged_statement_does_not_fit_its_signature(copy):
    forge(copy, "sed -i 's/--steps 150/--steps 121/' provenance.json")
    assert "press@example.org's signature does not fit the file" in error(copy.run(*VERIFY, check=False))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("sed -i 's/--steps 150/--steps 121/' provenance.json", "the command of finetune@"),
        ("sed -i s/1.2.0/1.2.9/ provenance.json", "version is '1.2.9', expected '1.2.0'"),
        ('sed -i \'s/"gitCommit": "..../"gitCommit": "0000/\' provenance.json', "is not part of ft-for-travel"),
        ("echo {} > provenance.json", "not a SLSA provenance statement"),
        ("printf '\\377' > provenance.json", "not a SLSA provenance statement"),
        ("sed -i s/externalParameters/internalParameters2/ provenance.json", "not a SLSA provenance statement"),
        ('sed -i \'s/"name": "source"/"name": "s"/\' provenance.json', "is no provenance of a release of this"),
        ("echo >> sbom.cdx.json", "sbom.cdx.json at"),
        ("echo >> SHA256SUMS", "SHA256SUMS at"),
        ("echo >> ../../../data/travel-tiny.jsonl", "data/travel-tiny.jsonl at"),
        ("echo >> ../../../README.md", "README.md changed after the commit that the provenance names"),
    ],
)
def test_forged_papers_do_not_verify_unsigned_either(copy, change, expected):
    forge(copy, change)
    (copy.folder / "allowed_signers").unlink()
    assert expected in error(copy.run(*VERIFY, check=False))
