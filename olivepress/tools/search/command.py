"""olivepress search: find the settings of quantization and export that hold limits on loss, size and speed."""

import fcntl
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.core.outputs import remove
from olivepress.core.params import load_params, missing_files
from olivepress.core.stage import Number
from olivepress.core.strict_yaml import dotted, read_yaml
from olivepress.tools import profile
from olivepress.tools.search import page, speed, written
from olivepress.tools.search.choice import Candidate, Limits, Prefer, choose
from olivepress.tools.search.space import Facts, Space, space_of
from olivepress.tools.search.study import Budget, Study, fingerprint, run
from olivepress.tools.search.trial import Measured, Processes, TrialError, Workplace, check_repository

STATE = Path(".dvc/tmp/search")  # journals and clones; git and DVC ignore it
REPORTS = Path("report/search")
PROFILES = Path("conf/profile")
INTERRUPTED = 130
TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, None: 60}


@dataclass(frozen=True)
class Asked:
    """One call: the study's name, the profile and the params that it begins with, what is searched, until when.

    ``only``: choices by setting; ``files``: data that trials read, relative to ``root`` where they lie in it.
    """

    root: Path
    name: str
    base: str
    params: dict[str, Any]
    target: str
    only: dict[str, list[str]]
    files: list[str]
    limits: Limits
    budget: Budget
    jobs: int
    prefer: Prefer
    seed: int

    @property
    def folder(self) -> Path:
        """Where the journal, the logs and the clones lie."""
        return self.root / STATE / self.name


def seconds_of(text: str | None) -> float | None:
    """Seconds of a time such as 90s, 30m or 2h; without a unit, minutes."""
    if text is None:
        return None
    match = TIME.fullmatch(text.strip())
    if not match or float(match[1]) == 0:
        raise PressError(f"--time-budget {text}: expected a time such as 90s, 30m or 2h.")
    return float(match[1]) * UNITS[match[2]]


def only_of(given: Sequence[str]) -> dict[str, list[str]]:
    """--set NAME=VALUE,VALUE as a table; the name may have its section before it, as in params.yaml."""
    found = {}
    for text in given:
        name, sign, values = text.partition("=")
        chosen = [value.strip() for value in values.split(",") if value.strip()]
        if not sign or not chosen:
            raise PressError(f"--set {text}: expected NAME=VALUE,VALUE, such as algorithm=awq,rtn.")
        found[name.strip().rpartition(".")[2]] = chosen
    return found


@click.command()
@click.option("--max-loss-increase", type=Number(), help="Nats a token of the answers, the base's being 0.")
@click.option("--max-megabytes", type=Number(0, min_open=True), help="Of the exported model, in 10⁶ bytes.")
@click.option("--min-tokens-per-second", type=Number(0, min_open=True), help="While decoding, here.")
@click.option("--trials", type=click.IntRange(1), help="Trials at most, those of earlier calls of this study included.")
@click.option("--time-budget", help="Of this call: 90s, 30m, 2h.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Trials at once, each with cpu.threads of threads.",
)
@click.option("--prefer", type=click.Choice(["smallest", "fastest", "best"]), default="smallest", show_default=True)
@click.option("--name", help="Of the study and of the profile. Default: the chosen profile's, with -search.")
@click.option("--target", help="Which of targets: is searched. Default: the first that runs on a CPU.")
@click.option(
    "--rows", type=click.IntRange(2), help="General rows that are measured, instead of evaluate.general_rows."
)
@click.option("--set", "given", multiple=True, help="NAME=VALUE,VALUE: a setting's choices; repeat for more.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of trials.")
@click.option("--force", is_flag=True, help="Write over a profile of that name.")
def main(
    max_loss_increase: float | None,
    max_megabytes: float | None,
    min_tokens_per_second: float | None,
    trials: int | None,
    time_budget: str | None,
    jobs: int,
    prefer: Prefer,
    name: str | None,
    target: str | None,
    rows: int | None,
    given: tuple[str, ...],
    seed: int,
    force: bool,
) -> None:
    """Search for the quantization that holds all limits, and write it as a profile.

    Each trial is a DVC experiment of the base without adapters, in a clone: what lies here stays as it is. The same
    command goes on where a search was stopped.
    """
    root = Path.cwd()
    limits = Limits(max_loss_increase, max_megabytes, min_tokens_per_second)
    budget = Budget(trials, seconds_of(time_budget))
    if not limits.any:
        raise PressError("no limit: give --max-loss-increase, --max-megabytes or --min-tokens-per-second.")
    if budget.trials is None and budget.seconds is None:
        raise PressError("no budget: give --trials, --time-budget or both; whichever is used up first ends the search.")
    check_repository(root)
    base = profile.chosen(root)
    name = name or f"{base}-search"
    if name == base:
        raise PressError(f"--name {name}: is the chosen profile, which the search begins with. Choose another name.")
    written.check_free(root / PROFILES, name, force=force)
    params = _params(root, base, rows)
    target = _target(params, target)
    only = only_of(given)
    files = _files(root, params, only)
    asked = Asked(root, name, base, params, target, only, files, limits, budget, jobs, prefer, seed)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as a Ctrl-C does
    try:
        with _alone(asked.folder, name):
            ended = _search(asked)
    except KeyboardInterrupt:
        ended = False
        click.echo("Interrupted. The trials that have ended are kept; the same command goes on.")
    finally:
        signal.signal(signal.SIGTERM, before)
    if not ended:
        sys.exit(INTERRUPTED)


def _search(asked: Asked) -> bool:
    """Run the trials, measure speed, choose, write; whether it came to its end."""
    root, processes = asked.root, Processes()
    places = [
        Workplace(root, asked.folder / f"clone-{number}", asked.target, processes) for number in range(asked.jobs)
    ]
    click.echo("Cloning the project, and fetching the base.")
    try:
        for place in places:
            place.make(asked.files)
            place.set("evaluate", asked.params["evaluate"])
        places[0].fetch()
    except TrialError as error:
        raise PressError(f"the base could not be fetched: {error}") from error
    except KeyboardInterrupt:
        processes.stop()
        raise
    space = _space(asked, places[0].folder / "models/base")
    mark = fingerprint(root, repr((asked.params, space.choices, asked.target)), asked.files)
    study = Study(asked.folder, asked.name, space, asked.limits, seed=asked.seed, fingerprint=mark)
    searched = [name for name in space.choices if len({each[name] for each in study.combinations}) > 1]
    before = len(study.measured) + len(study.failed)
    there = f", {before} of them are there already" if before else ""
    total = asked.budget.total(len(study.combinations))
    click.echo(
        f"{len(study.combinations)} combinations of {', '.join(searched) or 'nothing'}; {total} trials at most{there}."
    )
    if not run(study, places, processes, asked.budget, _say):
        click.echo(f"{len(study.measured)} trials have ended and are kept; the same command goes on.")
        return False
    if not study.measured:
        why = f" The first failed: {study.failed[0][2]}" if study.failed else " The time was too short for one."
        raise PressError(f"no trial has come to its end.{why} The log: {places[0].log.relative_to(root)}")
    for place in places:
        remove(place.folder)
    _conclude(asked, study)
    return True


def _conclude(asked: Asked, study: Study) -> None:
    """Measure speed, choose, show and write what came of it."""
    note = speed.busy()
    if note:
        click.echo(f"Note: {note}.")
    candidates = _with_speeds(asked, study.measured, _say)
    choice = choose(candidates, asked.limits, asked.prefer)
    path = page.write(asked.root / REPORTS, asked.name, candidates, study.failed, choice, asked.limits, note)
    click.echo(f"\n{page.table(candidates, choice, asked.limits)}\n")
    click.echo(page.verdict(choice).capitalize())
    for line in page.reasons(choice, asked.limits):
        click.echo(f"  {line}")
    click.echo(f"{path.relative_to(asked.root)}: open it in a browser; it needs no network")
    if choice.chosen:
        text = written.render(
            asked.name, asked.base, study.space, choice.chosen, candidates, asked.limits, asked.prefer
        )
        destination = PROFILES / f"{asked.name}.yaml"
        written.write(asked.root / destination, text)
        click.echo(f"{destination} is written: read it, then make repro PROFILE={asked.name}")


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time searches in ``folder``; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PressError(
                f"study {name} is being searched by another process. Wait for it, or give another --name."
            ) from error
        yield


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _params(root: Path, base: str, rows: int | None) -> dict[str, Any]:
    """The params that trials begin with; PressError if params.yaml is not what the chosen profile composes to."""
    path = root / "params.yaml"
    load_params(path)
    params = read_yaml(path).value
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "params.yaml"
        profile.compose(root, [f"profile={base}"], output)
        composed = read_yaml(output).value
    differing = [dotted(key) for key, *_ in profile.differences(params, composed)]
    if differing:
        raise PressError(
            f"params.yaml: {', '.join(differing[:5])}: not as profile {base} has it, which the profile of the choice "
            "will be based on. Put it into conf/, or run make params."
        )
    if missing := missing_files(params, root):
        raise PressError("params.yaml: " + "\n  ".join(missing))
    # a search measures losses: answers of its own it does not show
    params["evaluate"] |= {"generate_rows": 0, **({"general_rows": rows} if rows else {})}
    return params


def _target(params: dict[str, Any], given: str | None) -> str:
    targets = params["targets"]
    if given and given not in targets:
        raise PressError(f"--target {given}: no such target (there: {', '.join(targets)}).")
    on_cpu = [name for name, target in targets.items() if target["provider"] == "CPUExecutionProvider"]
    return given or (on_cpu or list(targets))[0]


def _files(root: Path, params: dict[str, Any], only: dict[str, list[str]]) -> list[str]:
    """Data that trials read, relative to the project where they lie in it."""
    calibration = only.get("calibration_data", [])
    if absent := [path for path in calibration if not (root / path).is_file()]:
        raise PressError(f"--set calibration_data={absent[0]}: no such file.")
    named = [params["model"]["watch"], params["evaluate"]["general_data"], params["quantize"]["calibration_data"]]
    return list(dict.fromkeys([*named, *_calibration(root, params), *calibration]))


def _calibration(root: Path, params: dict[str, Any]) -> list[str]:
    """The profile's calibration text, and what else lies beside it under a like name."""
    own = Path(params["quantize"]["calibration_data"])
    beside = sorted(path.relative_to(root).as_posix() for path in (root / own).parent.glob("calibration*.jsonl"))
    return list(dict.fromkeys([own.as_posix(), *(name for name in beside if not name.endswith(".dvc"))]))


def _space(asked: Asked, folder: Path) -> Space:
    """What is searched, for the base in ``folder``."""
    from olivepress.tools.new import base_of

    base = base_of(str(folder), asked.root, scratch=asked.folder)
    calibration = tuple(_calibration(asked.root, asked.params))
    return space_of(Facts(asked.params, asked.target, base.widths, base.parameters, calibration), asked.only)


def _with_speeds(asked: Asked, measured: Sequence[Measured], say: Callable[[str], None]) -> list[Candidate]:
    """Every trial with its speed, all of them measured now, in turns."""
    models = []
    for trial in measured:
        place = asked.folder / "models" / f"{trial.number:03d}"
        if speed.lend(trial.model, asked.root, place):
            models.append((str(trial.number), place))
        else:
            say(f"trial {trial.number}: its model is no more in DVC's cache (dvc gc?): its speed is not measured")
    prompt = asked.params["smoke_infer"]["prompt"][0]
    found = speed.measure(models, prompt, asked.params["text"]["template"], say)
    remove(asked.folder / "models")
    return [Candidate(trial, found.get(str(trial.number))) for trial in measured]
