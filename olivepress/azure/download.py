"""Bring a base model from Azure Machine Learning: from a workspace, a registry or the catalogue."""

import re
import tempfile
from pathlib import Path

from olivepress.azure.workspace import REGISTRY_ID, WORKSPACE_ID, ModelStore, connect, explained, workspace
from olivepress.core import report
from olivepress.core.documents import DOCUMENTS
from olivepress.core.errors import PressError
from olivepress.core.outputs import remove

MODEL_ID = re.compile(
    rf"azureml:(?P<name>[^:/]+):(?P<version>[^:/]+)"
    rf"|(?:azureml:)?/?/?(?:{REGISTRY_ID}|{WORKSPACE_ID})/models/(?P<long_name>[^/]+)/versions/(?P<long_version>[^/]+)"
)


def is_model_id(text: str) -> bool:
    """Whether ``text`` is meant as a model in Azure ML, well-formed or not."""
    return text.startswith(("azureml:", "/subscriptions/"))


def parse(text: str) -> tuple[ModelStore, str, str]:
    """(store, name, version) of a model id; ``azureml:NAME:VERSION`` means the environment's workspace."""
    match = MODEL_ID.fullmatch(text)
    if not match:
        raise PressError(
            f"model.source: {text}: expected azureml://registries/REGISTRY/models/NAME/versions/VERSION, "
            "azureml:NAME:VERSION (in the environment's workspace) or a workspace model's long id, "
            "azureml://subscriptions/S/resourceGroups/G/workspaces/W/models/NAME/versions/VERSION."
        )
    parts = {key: value for key, value in match.groupdict().items() if value}
    if "name" in parts:
        return workspace(), parts["name"], parts["version"]
    name, version = parts.pop("long_name"), parts.pop("long_version")
    return ModelStore(**parts), name, version


def download(source: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """Bring the checkpoint in the model ``source`` into ``folder``: the files that ``patterns`` name, flat.

    A catalogue model may be an MLflow folder: its checkpoint is where the safetensors lie, its tokenizer beside them or
    in a folder of its own, its licence above. The SDK holds one file at a time in memory.
    """
    store, name, version = parse(source)
    remove(folder)  # the SDK starts every file anew, and a half-written one of an earlier try must not stay
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        report.note(f"{name} version {version} from {store}")
        with explained(f"model.source: {source}", store):
            connect(store).models.download(name, version, download_path=scratch)
        for path in _checkpoint_files(Path(scratch), source, patterns):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)


def _checkpoint_files(root: Path, source: str, patterns: tuple[str, ...]) -> list[Path]:
    weights = {path.parent for path in root.rglob("*.safetensors") if (path.parent / "config.json").is_file()}
    if len(weights) != 1:
        listed = sorted(path.relative_to(root).as_posix() for path in (weights or root.rglob("*")) if path != root)
        raise PressError(
            f"model.source: {source}: expected one folder with config.json and safetensors, found {len(weights)}. "
            f"There are: {', '.join(listed[:20]) or 'no files'}."
        )
    (home,) = weights
    tokenizers = sorted(path.parent for path in root.rglob("tokenizer_config.json"))
    if home in tokenizers:  # what lies with another one is of another model
        tokenizers = []
    elif len(tokenizers) > 1:
        listed = ", ".join(path.relative_to(root).as_posix() for path in tokenizers[:20])
        raise PressError(
            f"model.source: {source}: has no tokenizer beside its weights, and several elsewhere: {listed}. Which is "
            "the model's, nobody says: register a model with one."
        )
    sources = [(home, patterns), *((folder, patterns) for folder in tokenizers)]
    above = [folder for folder in home.parents if folder.is_relative_to(root)]
    sources += [(folder, DOCUMENTS) for folder in above]
    return [path for folder, wanted in sources for pattern in wanted for path in sorted(folder.glob(pattern))]
