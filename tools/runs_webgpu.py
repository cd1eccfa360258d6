"""Exit 0 if a target of params.yaml is to be run on WebGPU, 1 if none is: what make repro installs the plug-in for.

python -m tools.runs_webgpu
"""

import sys
from pathlib import Path

import yaml

from olivepress.core.providers import WEBGPU


def main(path: Path = Path("params.yaml")) -> int:
    """Nothing is held to the schema here: check-params says what is wrong with the file."""
    try:
        targets = yaml.safe_load(path.read_text(encoding="utf-8"))["targets"].values()
        return int(not any(one.get("provider") == WEBGPU and not one.get("exported_only") for one in targets))
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
