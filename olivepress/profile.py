"""Compose conf/ into params.yaml, with the function that `dvc exp run -S` uses.

python -m olivepress.profile [profile=phi-3.5-mini] [quantize.algorithm=rtn …]
"""

import sys
from pathlib import Path


def compose(root: Path, overrides: list[str], output: Path) -> None:
    """Write the parameters of ``root``/conf under Hydra ``overrides`` to ``output`` (YAML)."""
    from dvc.utils.hydra import compose_and_dump

    compose_and_dump(output, str(root / "conf"), None, "config", str(root), overrides)


if __name__ == "__main__":
    here = Path.cwd()
    compose(here, sys.argv[1:], here / "params.yaml")
