"""The software bill of materials (CycloneDX): the model, its inputs, and the Python packages that made it."""

import importlib.metadata
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from olivepress.core.errors import PressError
from olivepress.core.process import run

if TYPE_CHECKING:
    from cyclonedx.model.component import Component


OPERATORS = "olivepress-operators"


def vendored() -> "list[Component]":
    """What the installed native operators' wheel has in it that is not ours: its own SBOM, where PEP 770 puts it.

    PressError if a wheel is installed that has none.
    """
    from cyclonedx.model.bom import Bom

    files = importlib.metadata.files(OPERATORS) or []
    boms = [file.locate() for file in files if file.match("*.dist-info/sboms/*.cdx.json")]
    if not boms:
        raise PressError(f"{OPERATORS}: the installed wheel has no SBOM: build it again (make operators).")
    found = []
    for path in boms:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        found += Bom.from_json({key: value for key, value in document.items() if key != "$schema"}).components
    return found


def check_lock(lock: Path) -> None:
    """PressError unless every package of the lock is installed here in that version.

    A build tag such as ``+cpu`` is no difference.
    """
    from packaging.requirements import Requirement

    wrong = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line[:1].isalnum():  # a comment, an option, or a hash of the package above
            continue
        wanted = Requirement(line.split(" --hash")[0].rstrip(" \\"))
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        if found == "not installed" or not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted} ({found})")
    if wrong:
        raise PressError(
            f"{lock}: this environment is not the lock's: {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Run make setup."
        )


def write_sbom(manifest: dict[str, Any], files: dict[str, str], when: datetime) -> str:
    """A CycloneDX 1.6 document as JSON text, the same for the same inputs.

    ``manifest`` is the release's, ``files`` the released files with their SHA-256, ``when`` its time stamp.
    Packages, their licences and who needs whom are those of this Python environment, by cyclonedx-py; what the native
    operators have in them is in their own SBOM.
    """
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate"]
    options = ["--output-reproducible", "--short-PURLs", "--sv", "1.6", "--output-format", "JSON"]
    bom = Bom.from_json(json.loads(run([*command, *options], name="cyclonedx-py").stdout))
    licence = LicenseFactory().make_from_string(manifest["licence"])

    def sha(digest: str) -> HashType:
        return HashType(alg=HashAlgorithm.SHA_256, content=digest)

    inputs = manifest["inputs_sha256"]
    model = Component(
        name=manifest["name"],
        version=manifest["version"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{manifest['name']}@{manifest['version']}",
        licenses=[licence],
        components=[
            Component(name=name, type=ComponentType.FILE, bom_ref=f"file:{name}", hashes=[sha(digest)])
            for name, digest in files.items()
        ],
    )
    base = Component(
        name=manifest["base"]["source"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="base",
        licenses=[licence],
        properties=[Property(name="architecture", value=manifest["base"]["architecture"])],
        components=[
            Component(name=name, type=ComponentType.FILE, bom_ref=f"input:{name}", hashes=[sha(digest)])
            for name, digest in inputs.items()
            if name.startswith("base/")
        ],
    )
    data = [
        Component(name=name, type=ComponentType.DATA, bom_ref=f"input:{name}", hashes=[sha(digest)])
        for name, digest in inputs.items()
        if not name.startswith("base/")
    ]
    packages = list(bom.components)
    for package in packages:  # the project itself is installed from a folder of this machine
        local = {place for place in package.external_references if str(place.url).startswith("file:")}
        package.external_references -= local
        if package.name == OPERATORS:
            package.components.update(vendored())
    bom.metadata.component = model
    bom.metadata.timestamp = when
    bom.serial_number = uuid5(NAMESPACE_URL, json.dumps([manifest["name"], manifest["version"], sorted(files.items())]))
    bom.components.update([base, *data])
    bom.register_dependency(model, [base, *data, *packages])
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
