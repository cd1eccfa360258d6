"""olivepress lm-eval: tasks of EleutherAI's evaluation harness on what ships, through ONNX Runtime GenAI.

Any task that lm-eval knows, or one's own: a folder of YAML files (`--include-path`). Those on the hub are fetched.
"""

from pathlib import Path

import click

from olivepress.core.artifact import ADAPTER_SUFFIX
from olivepress.core.errors import PressError
from olivepress.core.outputs import write_json
from olivepress.runtime.integrity import check_release
from olivepress.runtime.release import find_release
from olivepress.tools.chat import exported_here

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--tasks", required=True, help="Names, with commas between them; `lm_eval ls tasks` lists them.")
@click.option("--folder", type=FOLDER, help="A release's folder; without it, the last run here.")
@click.option("--target", help="The target, where there are several.")
@click.option("--adapter", help="The adapter to answer with; none without it.")
@click.option("--include-path", type=FOLDER, help="A folder with tasks of one's own.")
@click.option(
    "--num-fewshot", type=click.IntRange(0), help="Examples in each prompt; the task's own number without it."
)
@click.option("--limit", type=click.IntRange(1), help="Examples of each task, from the first.")
@click.option("--chat", is_flag=True, help="Ask in the model's chat template, as an instruction model is used.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON: every metric of every task.")
def main(
    tasks: str,
    folder: Path | None,
    target: str | None,
    adapter: str | None,
    include_path: Path | None,
    num_fewshot: int | None,
    limit: int | None,
    chat: bool,
    output: Path | None,
) -> None:
    """Run TASKS on the exported model without an adapter, or with one."""
    release = find_release(folder, target) if folder else exported_here(target)
    if folder:
        check_release(release)
    file = adapter_file(release, adapter) if adapter else None
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    from olivepress.tools.lm_eval_model import AdaptedLM

    manager = TaskManager(include_path=str(include_path) if include_path else None)
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    unknown = [name for name in wanted if not manager.match_tasks([name])]
    if unknown:
        raise PressError(f"--tasks: lm-eval knows no {unknown[0]!r}. `lm_eval ls tasks` lists those that it does know.")
    found = simple_evaluate(
        model=AdaptedLM(release / "model", file),
        tasks=wanted,
        num_fewshot=num_fewshot,
        limit=limit,
        apply_chat_template=chat,
        task_manager=manager,
        bootstrap_iters=1000,
    )
    click.echo(make_table(found))
    if output:
        write_json(output, {"adapter": adapter, "results": found["results"]})


def adapter_file(release: Path, name: str) -> Path:
    """The file of an adapter in the folder of a release or a run; PressError names those there are."""
    files = {
        path.name.removesuffix(ADAPTER_SUFFIX): path
        for path in sorted((release / "adapters").glob(f"*{ADAPTER_SUFFIX}"))
    }
    if name not in files:
        raise PressError(f"{release}: no adapter {name!r} (there: {', '.join(files) or 'none'}).")
    return files[name]
