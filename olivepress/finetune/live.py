"""The losses while an adapter is trained, as DVCLive writes them: `dvc exp show`, `dvc plots` and DVC's extension for
VS Code read these files as they grow.

They are no outputs, and in neither git nor dvc.lock, like costs: they tell of a training that goes on, or did here
last. What a training came to are results/quality/finetune and results/plots/training.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.outputs import remove
from olivepress.core.report import note

if TYPE_CHECKING:
    from dvclive import Live

NAMES = {"loss": "training/loss", "eval_loss": "held_out/loss", "learning_rate": "training/learning_rate"}


@dataclass
class Curves:
    """Given each entry of a Trainer's log, writes the latest values to ``metrics``, a JSON file, and all of them below
    ``plots``, a folder with a table for each. What an earlier training left there goes with the first entry."""

    metrics: Path
    plots: Path

    def __call__(self, entry: dict[str, float]) -> None:
        found = {name: entry[key] for key, name in NAMES.items() if key in entry}
        if not found or self.live is None:
            return
        self.live.step = int(entry["step"])
        for name, value in found.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    @cached_property
    def live(self) -> "Live | None":
        """DVCLive in the process that trains. It saves no experiment, writes no dvc.yaml, and no time stamps.

        None in a git repository without a commit: DVCLive 3.49 asks for one, whatever it is told.
        """
        from dvclive import Live
        from scmrepo.exceptions import SCMError

        curves = self

        class Apart(Live):
            """With the metrics and the plots in places of their own: `dvc metrics` takes a folder of metrics alone."""

            metrics_file = property(lambda self: str(curves.metrics))
            plots_dir = property(lambda self: str(curves.plots))

        remove(self.plots)
        self.metrics.parent.mkdir(parents=True, exist_ok=True)
        try:
            return Apart(dir=str(self.plots), save_dvc_exp=False, dvcyaml=None)
        except SCMError as error:
            note(f"finetune: no live losses for `dvc exp show` ({error}): commit first.")
            return None
