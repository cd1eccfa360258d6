"""The SBOM says what the native operators' wheel has in it that is not ours."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.release.sbom import OPERATORS, vendored

ROOT = Path(__file__).parents[1]
OWN = ROOT / "operators/vendored.cdx.json"
HEADERS = ROOT / "operators/native/vendor/onnxruntime"


def components() -> dict[str, dict]:
    return {part["name"]: part for part in json.loads(OWN.read_text())["components"]}


def test_the_vendored_headers_are_all_there_by_their_hashes():
    part = components()["onnxruntime-headers"]
    listed = {file["name"]: file["hashes"] for file in part["components"]}
    assert listed == {
        path.relative_to(HEADERS).as_posix(): [{"alg": "SHA-256", "content": sha256(path)}]
        for path in HEADERS.rglob("*.h")
    }
    assert f"ONNX Runtime {part['version']} (tag `v{part['version']}`)" in (HEADERS / "README.md").read_text()
    assert (HEADERS / "LICENSE").read_text().startswith("MIT License")
    assert part["licenses"] == [{"license": {"id": "MIT"}}]


def test_compilers_and_runtimes_are_at_the_versions_that_build_the_wheel():
    project = tomllib.loads((ROOT / "operators/pyproject.toml").read_text())
    pinned = dict(one.split("==") for one in project["build-system"]["requires"])
    parts = components()
    for name in ("ziglang", "nvidia-cuda-nvrtc-cu12"):
        assert parts[name]["version"] == pinned[name]
        assert parts[name]["scope"] == "excluded"
    assert parts["zig-compiler-rt"]["version"] == pinned["ziglang"]
    assert parts["glibc-nonshared"]["version"] == f"ziglang-{pinned['ziglang']}"
    glibc = re.search(r'GLIBC = "([\d.]+)"', (ROOT / "operators/hatch_build.py").read_text())[1]
    assert f"glibc {glibc}" in parts["glibc-nonshared"]["description"]
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["sbom-files"] == [OWN.name]


def test_it_is_a_valid_cyclonedx_document():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(OWN.read_text()) is None


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """The wheel's metadata as an installer leaves them, before any other of that name."""
    folder = tmp_path / "olivepress_operators-1.0.0.dist-info"
    (folder / "sboms").mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {OPERATORS}\nVersion: 1.0.0\n")
    (folder / "sboms" / OWN.name).write_bytes(OWN.read_bytes())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return folder


def test_what_the_wheel_vendors_is_read_from_where_it_is_installed(installed):
    (installed / "RECORD").write_text(f"{installed.name}/METADATA,,\n{installed.name}/sboms/{OWN.name},,\n")
    found = vendored()
    assert {part.name: part.version for part in found} == {name: part["version"] for name, part in components().items()}
    headers = next(part for part in found if part.name == "onnxruntime-headers")
    assert len(headers.components) == 3
    assert [licence.id for licence in headers.licenses] == ["MIT"]


def test_a_wheel_that_was_built_before_says_what_to_do(installed):
    (installed / "RECORD").write_text(f"{installed.name}/METADATA,,\n")
    with pytest.raises(PressError, match=r"olivepress-operators: the installed wheel has no SBOM.*make operators"):
        vendored()
