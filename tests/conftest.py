"""Stage scripts and `dvc` are found as in a shell with .venv active, from the project's root."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["DVC_NO_ANALYTICS"] = "1"
sys.path.insert(0, str(ROOT))

from services import azurite  # noqa: E402, F401 - a fixture for every test
