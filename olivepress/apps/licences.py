"""The licence texts of what a release runs with: the model's, ONNX Runtime's, GenAI's, ours, the native operators'."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from olivepress.core.artifact import LIBRARIES
from olivepress.core.documents import licence_files
from olivepress.core.errors import PressError

RUNTIMES = ("onnxruntime", "onnxruntime-genai")
OPERATORS = "olivepress-operators"
TEXTS = ("LICENSE", "ThirdPartyNotices.txt")


def licence_texts(model: Path) -> dict[str, bytes]:
    """Path in a folder of licences -> text, for the model folder of a release; PressError if one cannot be had."""
    found = {f"model/{path.name}": path.read_bytes() for path in licence_files(model)}
    native = any((model / library).is_file() for library in LIBRARIES.values())
    for name in ("olivepress", *RUNTIMES, *((OPERATORS,) if native else ())):
        found |= {f"{name}/{place}": text for place, text in _installed(name).items()}
    return found


def _installed(name: str) -> dict[str, bytes]:
    """The licence texts in an installed package, below its folder or its metadata's."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError as error:
        raise PressError(
            f"{name}: is not installed, and its licence has to be in the package: make operators."
        ) from error
    texts = {}
    for file in files:
        if file.name in TEXTS:
            place = PurePosixPath(*file.parts[file.parts.index("licenses") + 1 if "licenses" in file.parts else 1 :])
            texts[str(place)] = Path(str(file.locate())).read_bytes()
    if not texts:
        raise PressError(f"{name}: is installed without a licence text. Install it again: make setup.")
    return texts
