"""operators/ as its users build it: pip makes an environment with the compilers, and the same wheel everywhere."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import olivepress_operators
import pytest

from olivepress.core.artifact import LIBRARIES
from olivepress.export.operator_library import SHA256, VERSION, check_library

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_another_build_elsewhere_gives_the_same_wheel(tmp_path):
    """In an environment of the build's own, in another folder: what is in it is what is installed."""
    sources = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "operators", sources, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "-q", "-w", tmp_path]
    subprocess.run([*pip, sources], check=True, cwd=tmp_path)
    name = f"olivepress_operators-{VERSION}-py3-none-manylinux_2_28_x86_64.manylinux_2_28_aarch64.whl"
    assert [path.name for path in tmp_path.glob("*.whl")] == [name]
    installed = check_library().parents[1]
    with zipfile.ZipFile(tmp_path / name) as wheel:
        files = [member for member in wheel.infolist() if not member.filename.endswith("/RECORD")]
        for member in files:
            assert wheel.read(member) == (installed / member.filename).read_bytes(), member.filename
            assert member.date_time == files[0].date_time
        libraries = {
            (processor, cuda): wheel.read(f"olivepress_operators/{'cuda/' if cuda else ''}{name}")
            for processor, name in LIBRARIES.items()
            for cuda in (False, True)
        }
    for (processor, cuda), library in libraries.items():
        digest = hashlib.sha256(library).hexdigest()
        assert digest == SHA256[processor][cuda] == olivepress_operators.library_sha256(processor, cuda=cuda)
        assert str(ROOT).encode() not in library and str(tmp_path).encode() not in library
    assert sorted(member.filename.rpartition("/")[2] for member in files) == [
        *("LICENSE", "LICENSE", "METADATA", "WHEEL", "__init__.py"),
        *sorted([*LIBRARIES.values()] * 2),
        "vendored.cdx.json",
    ]
    assert not [path for path in sources.rglob("*") if path.suffix in (".o", ".so", ".ptx")]
