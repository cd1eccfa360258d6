"""What a quantized checkpoint's config.json says of how its weights came about."""

from pathlib import Path
from typing import Any

from olivepress.core.outputs import read_json, write_json


def note_settings(config: Path, **settings: Any) -> None:
    """Add ``settings`` to the quantization_config in the file ``config``. Who loads the checkpoint passes over them."""
    content = read_json(config)
    content["quantization_config"].update(settings)
    write_json(config, content)
