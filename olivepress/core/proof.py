"""How far the parts of an exported model were proved to work: each level includes the ones before it."""

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from olivepress.core.artifact import LIBRARIES, library_for

EXPORTED_ONLY = "exported_only"  # auto-opt's word on a target that no stage runs
EXPORTED = "exported"
STRUCTURE = "structure checked"
ELSEWHERE = "structure checked, computed on the CPU"
RUN = "run"
EVALUATED = "evaluated"
# level -> what was done, for people
LEVELS = {
    EXPORTED: "written, and no more",
    STRUCTURE: "its graph was looked through and its tokenizer compared, and nothing was computed",
    ELSEWHERE: "what it was made for never ran it: the CPU computed it in its place, and gave what PyTorch gives, "
    "layer by layer, without and with an adapter",
    RUN: "it computed, and gave what PyTorch gives, layer by layer, without and with an adapter",
    EVALUATED: "the metrics are its own, and held the thresholds",
}


def proved_by_export(model_folder: Path, *, computed: bool, elsewhere: bool = False) -> dict[str, str]:
    """File -> level of the graphs and libraries in a model folder, as auto-opt leaves it.

    ``computed``: whether its graphs were compared with PyTorch, which loads this machine's library and no other.
    ``elsewhere``: whether the CPU computed them in the place of what they were made for.
    """
    level = STRUCTURE if not computed else ELSEWHERE if elsewhere else RUN
    graphs = {path.name: level for path in sorted(model_folder.glob("*.onnx"))}
    own = library_for(platform.machine())
    libraries = {
        name: level if name == own and computed else EXPORTED
        for name in LIBRARIES.values()
        if (model_folder / name).is_file()
    }
    return graphs | libraries


def proved_by_evaluation(exported: Mapping[str, str], graphs: Iterable[str]) -> dict[str, str]:
    """The same once ``graphs`` were evaluated and passed the gate. A library stays as it was: it ran where they did."""
    return {**exported, **dict.fromkeys(graphs, EVALUATED)}


def never_run(facts: Mapping[str, Any]) -> bool:
    """Whether a target is exported and no more: no stage runs it. ``facts``: what auto-opt wrote of it."""
    return facts.get(EXPORTED_ONLY) is True
