"""tools/install.py: pip's configuration told to uv, the parts of a lock, and what is installed otherwise than locked.

That all of it together fills an environment is what every run of CI begins with (make setup).
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from olivepress.core.outputs import sha256
from tools import install

ROOT = Path(__file__).parents[2]
# as `pip config list` prints it
LISTED = r"""
:env:.cert='/certs/ca.pem'
:env:.default-timeout='180'
:env:.find-links='/wheels'
download.index-url='https://download.invalid/simple'
global.extra-index-url='file:///one/simple file:///two/simple'
global.find-links='/others'
global.index-url='https://index.invalid/simple'
global.no-index='false'
install.trusted-host='\na.invalid\nb.invalid'
global.disable-pip-version-check='1'
"""


def test_pip_s_configuration_is_told_to_uv():
    options, variables = install.uv_options(install.pip_settings(LISTED))
    told = sorted(zip(options[::2], options[1::2], strict=True))
    assert told == [
        ("--allow-insecure-host", "a.invalid"),
        ("--allow-insecure-host", "b.invalid"),
        ("--cert", "/certs/ca.pem"),
        ("--default-index", "https://index.invalid/simple"),
        ("--find-links", "/wheels"),
        ("--index", "file:///one/simple"),
        ("--index", "file:///two/simple"),
        ("--index-strategy", "unsafe-best-match"),
    ]
    assert variables == {"UV_HTTP_TIMEOUT": "180"}


def test_uv_knows_every_option_that_it_is_told():
    known = subprocess.run([install.UV, "pip", "install", "--help"], capture_output=True, text=True, check=True).stdout
    for option in (*install.OPTIONS.values(), "--index-strategy", "--no-index", "--system-certs"):
        assert f"{option} " in known or f"{option}\n" in known, option


def test_the_bundle_that_pip_reads_from_the_environment_is_uv_s_too(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/certs/requests.pem")
    options, _ = install.uv_options({})
    assert options[-2:] == ["--cert", "/certs/requests.pem"]


def test_a_setting_that_uv_has_nothing_for_is_named():
    with pytest.raises(KeyError, match="client-cert"):
        install.uv_options({"client-cert": "/certs/me.pem"})


@pytest.mark.parametrize("for_cpus", [True, False], ids=["a folder has torch for CPUs", "none has"])
def test_pip_installs_where_uv_cannot_follow(monkeypatch, capsys, tmp_path, for_cpus):
    """The whole lock, but for the commands that would install it: these are looked at."""
    commands, locks = [], []
    listed = f"global.client-cert='/certs/me.pem'\n:env:.find-links='{tmp_path}'\n"
    if for_cpus:
        (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()

    def run(*command: str, **_: object) -> str:
        commands.append(command)
        locks.append(Path(command[command.index("-r") + 1]).read_text() if "-r" in command else "")
        return listed

    monkeypatch.setattr(install, "run", run)
    install.install_lock(install.LOCK, "/other/python")
    assert {command[:3] for command in commands} == {(sys.executable, "-m", "pip")}
    own, builder, whole = (command for command in commands if "install" in command)
    assert own[3:5] == ("--python", sys.executable)
    assert builder[3:5] == whole[3:5] == ("--python", "/other/python")
    assert all("--require-hashes" in command for command in (own, builder, whole))
    assert ("torch==2.13.0+cpu " in locks[-1]) == for_cpus
    assert (install.CUDA_OF_TORCH in whole) != for_cpus
    assert "pip is configured with 'client-cert', which uv has nothing for" in capsys.readouterr().out


def wheel(folder: Path) -> str:
    """A package of one module as a wheel in ``folder``; returns the wheel's SHA-256."""
    metadata = "Metadata-Version: 2.1\nName: pressed\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {"pressed.py": "", "pressed-1.0.dist-info/METADATA": metadata, "pressed-1.0.dist-info/WHEEL": tags}
    path = folder / "pressed-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("pressed-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return sha256(path)


@pytest.mark.parametrize("fits", [True, False], ids=["the lock's bytes", "other bytes"])
def test_what_the_lock_does_not_know_by_its_hash_is_not_installed(tmp_path, fits):
    """By uv, from a folder, into an environment of its own."""
    digest = wheel(tmp_path)
    (tmp_path / "lock.txt").write_text(f"pressed==1.0 \\\n    --hash=sha256:{digest if fits else '0' * 64}\n")
    venv.create(tmp_path / "venv")
    command = [sys.executable, ROOT / "tools/install.py", "--lock", tmp_path / "lock.txt"]
    done = subprocess.run(
        [*command, "--into", tmp_path / "venv/bin/python"],
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv")},
        capture_output=True,
        text=True,
        check=False,
    )
    there = list((tmp_path / "venv").glob("lib/python*/site-packages/pressed.py"))
    assert (done.returncode == 0, len(there)) == (fits, fits), done.stderr
    assert fits or "Hash mismatch" in done.stderr


LOCK = """# Compiled
setuptools==84.2.1 \\
    --hash=sha256:aa
torch==2.13.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
uv==0.13.9 \\
    --hash=sha256:dd
"""


def test_entries_of_a_lock_come_with_their_hashes():
    assert install.pins(LOCK) == {"setuptools": "84.2.1", "torch": "2.13.0", "uv": "0.13.9"}
    assert install.entries(LOCK, "uv", "torch") == LOCK[LOCK.index("torch==") :]


def test_the_build_for_cpus_has_its_own_version():
    assert install.pins(install.with_build_for_cpus(LOCK))["torch"] == "2.13.0+cpu"
    assert install.with_build_for_cpus(LOCK).replace("+cpu", "") == LOCK


PLACE = sysconfig.get_path("purelib")


def test_what_is_installed_here_is_what_the_lock_says():
    assert install.wrong_versions((ROOT / "requirements.txt").read_text(), PLACE) == []


def test_what_is_installed_otherwise_is_named():
    version = metadata.version("click")
    lock = f"click=={version}.1\nno-such-package==1.0\ntorch=={metadata.version('torch').partition('+')[0]}\n"
    expected = [f"click {version}, not {version}.1", "no-such-package is missing, not 1.0"]
    assert install.wrong_versions(lock, PLACE) == expected
