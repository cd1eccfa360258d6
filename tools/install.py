"""Install by uv, which works in parallel, with pip's configuration of this machine; by pip where uv cannot follow it.

python tools/install.py: what requirements.txt names, checked by hash, and the project itself, into the environment that
this Python belongs to (`make setup`). With --lock and --into: another lock into another environment (the image). With
any other ARGUMENT…: a `pip install` that uv understands, too. Standard library only: there is nothing but pip yet.

uv compiles no bytecode: Python does at the first import, and of half of the modules never.
"""

import argparse
import os
import re
import shlex
import ssl
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.txt"
# What PyPI's torch for Linux asks for and a build for CPUs does not: pins for the case, installed only if asked for.
CUDA_OF_TORCH = ROOT / "requirements-torch.txt"
UV = Path(sys.executable).with_name("uv")
# Settings of pip that say where packages come from -> uv's options. More than one value: parted by spaces or lines.
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraints",
    "cert": "--cert",
    "no-binary": "--no-binary",
    "only-binary": "--only-binary",
}
VARIABLES = {"timeout": ["UV_HTTP_TIMEOUT"], "default-timeout": ["UV_HTTP_TIMEOUT"], "retries": ["UV_HTTP_RETRIES"]}
VARIABLES["proxy"] = ["HTTP_PROXY", "HTTPS_PROXY"]
# Settings that change nothing about what is installed.
INDIFFERENT = {
    *("disable-pip-version-check", "no-python-version-warning", "no-warn-script-location", "no-warn-conflicts"),
    *("root-user-action", "progress-bar", "no-color", "quiet", "verbose", "no-input", "log", "format"),
    *("cache-dir", "no-cache-dir", "compile", "no-compile", "require-virtualenv", "exists-action", "prefer-binary"),
    *("use-feature", "use-deprecated"),
}


def pip_settings(listed: str) -> dict[str, str]:
    """Setting -> value of what `pip config list` prints, as `pip install` takes them: the environment's go last."""
    rows = re.findall(r"^(global|install|:env:)\.([\w-]+)=(['\"].*['\"])$", listed, re.M)
    ranked = sorted(rows, key=lambda row: ["global", "install", ":env:"].index(row[0]))
    return {name: text[1:-1].replace("\\n", " ") for _, name, text in ranked}


def read_pip_settings() -> dict[str, str]:
    """``pip_settings`` of this machine."""
    return pip_settings(run(sys.executable, "-m", "pip", "config", "list", capture=True))


def uv_options(settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """(options, environment variables) for uv that mean what ``settings`` mean to pip.

    KeyError names a setting that uv has nothing for.
    """
    # as pip does; uv by itself takes a package from the first index that has it, whatever the version
    options, variables = ["--index-strategy", "unsafe-best-match"], {}
    for name, value in settings.items():
        if name in OPTIONS:
            options += [part for one in value.split() for part in (OPTIONS[name], one)]
        elif name in VARIABLES:
            variables |= dict.fromkeys(VARIABLES[name], value)
        elif name == "no-index":
            options += ["--no-index"] if value.lower() in ("1", "true", "yes", "on") else []
        elif name not in INDIFFERENT:
            raise KeyError(name)
    if "cert" not in settings:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get(
            "CURL_CA_BUNDLE"
        )  # pip reads these, uv does not
        if bundle:
            options += ["--cert", bundle]
        elif ssl.get_default_verify_paths().cafile:
            options += ["--system-certs"]
    return options, variables


class Uv:
    """uv with pip's configuration, for the environment of ``python``. KeyError: a setting that uv has nothing for."""

    def __init__(self, python: str = sys.executable, *, hashed: bool = False) -> None:
        settings = read_pip_settings()
        if hashed:
            settings.pop("constraint", None)  # uv wants hashes of it; and it could only refuse what the lock pins
        self.python = python
        self.options, self.variables = uv_options(settings)

    def run(self, *command: str | Path, capture: bool = False) -> str:
        """`uv pip COMMAND`; see ``run``."""
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        arguments = [*command, "--python", self.python, *quiet, *self.options]
        return run(UV, "pip", *arguments, variables=self.variables, capture=capture)

    def offers_build_for_cpus(self, version: str) -> bool:
        """Whether an index or a folder of this machine has torch without CUDA, which PyPI has not."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as asked:
            asked.write(f"torch=={version}")
            asked.flush()
            found = self.run("compile", "--no-deps", asked.name, capture=True)
        return pins(found).get("torch") == f"{version}+cpu"


def run(*command: str | Path, variables: dict[str, str] | None = None, capture: bool = False) -> str:
    """Run a command; its failure ends this program with its status. What it prints is returned if ``capture``."""
    environment = {**os.environ, **(variables or {})}
    output = subprocess.PIPE if capture else None
    done = subprocess.run(list(map(str, command)), env=environment, stdout=output, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, command))}: exit status {done.returncode}")
    return done.stdout or ""


def pip(*arguments: str | Path, python: str = sys.executable) -> None:
    """`pip install`."""
    # -qq: pip warns of every configured folder that lacks a package, once a package
    run(sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--disable-pip-version-check", *arguments)


def pins(lock: str) -> dict[str, str]:
    """Name -> version in the text of a lock."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", lock, re.M))


def entries(lock: str, *names: str) -> str:
    """The entries of ``names`` in the text of a lock, hashes included."""
    return "".join(one for one in re.split(r"^(?=[\w.-]+==)", lock, flags=re.M) if one.partition("==")[0] in names)


def with_build_for_cpus(lock: str) -> str:
    """The lock with torch's build for CPUs: 2.13.0 and 2.13.0+cpu are two versions. The hashes are the same."""
    return re.sub(r"^(torch==[\w.]+)", r"\1+cpu", lock, count=1, flags=re.M)


def install_lock(lock: Path, python: str) -> None:
    """Everything in a lock. What has to be built is built by the lock's own setuptools, not by any other."""
    text, own = lock.read_text(encoding="utf-8"), lock == LOCK
    checked = ["--require-hashes", "--no-build-isolation"]
    with tempfile.TemporaryDirectory() as scratch:
        file, builder = Path(scratch) / "lock.txt", Path(scratch) / "setuptools.txt"
        file.write_text(entries(LOCK.read_text(encoding="utf-8"), "uv"), encoding="utf-8")
        pip("--require-hashes", "--no-deps", "-r", file)
        builder.write_text(entries(text, "setuptools"), encoding="utf-8")
        try:
            uv = Uv(python, hashed=True)
        except KeyError as error:
            print(f"pip is configured with {error}, which uv has nothing for: pip installs, which takes longer.")
            folders = read_pip_settings().get("find-links", "").split()
            for_cpus = own and any(wheel for folder in folders for wheel in Path(folder).glob("torch-*+cpu-*.whl"))
            file.write_text(with_build_for_cpus(text) if for_cpus else text, encoding="utf-8")
            pip("--require-hashes", "-r", builder, python=python)
            more = ["-r", CUDA_OF_TORCH] if own and not for_cpus else []
            pip(*checked, "--use-pep517", "-r", file, *more, python=python)
        else:
            for_cpus = own and uv.offers_build_for_cpus(pins(text)["torch"])
            file.write_text(with_build_for_cpus(text) if for_cpus else text, encoding="utf-8")
            uv.run("install", "--require-hashes", "-r", builder)
            uv.run("install", *checked, "-r", file, *(["-c", CUDA_OF_TORCH] if own else []))


def install(arguments: list[str]) -> None:
    """`pip install` of something else."""
    try:
        Uv(hashed="--require-hashes" in arguments).run("install", *arguments)
    except KeyError:
        pip(*arguments)


def wrong_versions(lock: str, place: str) -> list[str]:
    """What is installed in the folder ``place`` otherwise than locked. A build's tag (+cpu) is no difference."""
    installed = metadata.distributions(path=[place])
    found = {re.sub(r"[-_.]+", "-", one.name).lower(): one.version for one in installed}
    return [
        f"{name} {found.get(name, 'is missing')}, not {version}"
        for name, version in pins(lock).items()
        if found.get(name, "").partition("+")[0] != version
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--into", default=sys.executable, help="another environment's Python")
    own, arguments = parser.parse_known_args()
    if arguments:
        install(arguments)
        return
    install_lock(own.lock, own.into)
    if own.into == sys.executable:
        install(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    run(UV, "pip", "check", "--quiet", "--python", own.into)
    place = run(own.into, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", capture=True).strip()
    if wrong := wrong_versions(own.lock.read_text(encoding="utf-8"), place):
        sys.exit(f"{own.lock}: installed is {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
