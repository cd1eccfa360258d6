"""What users of a release call: load the folder that `dvc artifacts get` brought. Needs no torch."""

import json
from pathlib import Path

from olivepress.dataset import unescape
from olivepress.errors import PressError
from olivepress.generation import Chatbot


def load(folder: str | Path) -> Chatbot:
    """The model of a release with every adapter in it, ready to answer; PressError if ``folder`` is no release."""
    manifest = Path(folder) / "manifest.json"
    if not manifest.is_file():
        raise PressError(f"{manifest}: not there. Expected a release: dvc artifacts get <repository> <name>")
    release = json.loads(manifest.read_text(encoding="utf-8"))
    adapters = {name: Path(folder) / f"adapters/{name}.onnx_adapter" for name in release["adapters"]}
    return Chatbot(Path(folder) / "model", adapters, template=unescape(release["params"]["text"]["template"]))
