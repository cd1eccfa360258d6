"""The Docker client, the image as the tests build it, and a checkout to mount."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
DOCKER = os.environ.get("DOCKER", "docker")
# Somebody whom neither this machine nor the image knows; only root can give files away, others stay who they are.
CALLER = (12345, 23456) if os.getuid() == 0 else (os.getuid(), os.getgid())
# A word in pip's configuration that must be found nowhere in the image.
SECRET = f"secret-{uuid.uuid4().hex}.invalid"


def docker(*arguments: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run the Docker client and return what it said."""
    done = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, check=False, **options)
    if check and done.returncode:
        raise AssertionError(
            f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done


def build(flavour: str, tag: str, *options: str) -> str:
    """docker/build.sh on $BASE, or on a stand-in where no image can be pulled; returns the tag."""
    environment = {**os.environ, "DOCKER": DOCKER, "IMAGE": tag, "PIP_TRUSTED_HOST": SECRET}
    if not environment.get("BASE"):
        command = [ROOT / "tests/container/stand_in.sh"]
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
        assert made.returncode == 0, "no stand-in base: set BASE to an image that can be pulled"
        environment["BASE"] = made.stdout.strip()
    subprocess.run([ROOT / "docker/build.sh", flavour, *options], env=environment, check=True)
    return tag


class Checkout:
    """A clone of the project that belongs to CALLER, with a folder for the cache beside it."""

    def __init__(self, folder: Path) -> None:
        clone(ROOT, folder / "linked")
        # git links the objects of a local clone to the original's: copied, they can change owner
        self.repo = shutil.copytree(folder / "linked", folder / "repo", symlinks=True)
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.give_away()

    def give_away(self) -> None:
        """Make everything CALLER's."""
        for top in (self.repo, self.cache):
            for path in (top, *top.rglob("*")):
                os.chown(path, *CALLER, follow_symlinks=False)

    def options(self) -> list[str]:
        """What `docker run` needs to work here as CALLER, on a read-only root."""
        user = f"{CALLER[0]}:{CALLER[1]}"
        return ["--read-only", "--user", user, "-v", f"{self.repo}:/repo", "-v", f"{self.cache}:/cache"]

    def run(self, image: str, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        return docker("run", "--rm", *self.options(), image, *command, check=check)
