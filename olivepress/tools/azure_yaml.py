"""What Azure's SDK is asked for, as YAML: read by the SDK itself before anything is sent."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from olivepress.azure.workspace import quiet
from olivepress.core.errors import PressError

T = TypeVar("T")


def checked(wanted: dict[str, Any], load: Callable[[Path], T], refused: str) -> T:
    """What the SDK's ``load`` (load_job, load_online_endpoint, …) makes of ``wanted``.

    PressError that begins with ``refused`` and has what the SDK's schema objects to.
    """
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError

    quiet()
    with tempfile.TemporaryDirectory(prefix="olive-press-azure-") as folder:
        path = Path(folder) / "wanted.yaml"
        path.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        try:
            return load(path)
        except (MlException, ValidationError) as error:
            raise PressError(f"{refused}: {' '.join(str(error).split())[:600]}") from error


def shown(wanted: dict[str, Any]) -> str:
    """``wanted`` as people read it."""
    return yaml.safe_dump(wanted, sort_keys=False, width=1000)
