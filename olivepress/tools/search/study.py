"""Which settings are tried next, by Optuna, whose journal keeps every finished trial (its storage outlives a crash)."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import yaml

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.tools.screen import duration
from olivepress.tools.search.choice import Limits
from olivepress.tools.search.space import Settings, Space, short
from olivepress.tools.search.trial import InterruptedTrial, Locks, Measured, Processes, TrialError, Workplace

if TYPE_CHECKING:
    import optuna

# That a trial is made by; what other stages are made by may change between two halves of a search.
STAGES = ("check-params", "fetch", "quantize", "reference-base", "auto-opt", "evaluate-base")
SMALL = 16  # combinations that are all tried if only the time is bounded
SPEED_SHARE = 0.1  # of the time: left for measuring speed once all trials have ended
ENDED = ("measured", "error")  # attributes of a trial that need not run again


@dataclass(frozen=True)
class Budget:
    """Trials in all, those of earlier calls included, and seconds of this call; None is no bound."""

    trials: int | None
    seconds: float | None

    def total(self, combinations: int) -> int:
        """How many trials there can be."""
        return combinations if self.trials is None else min(self.trials, combinations)

    def whole(self, combinations: int) -> bool:
        """Whether all are tried, in their own order, and nothing has to be drawn."""
        return combinations <= (SMALL if self.trials is None else self.trials)


class Study:
    """A search that can go on: what was tried, what is next. One process at a time holds it."""

    def __init__(self, folder: Path, name: str, space: Space, limits: Limits, *, seed: int, fingerprint: str) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space, self.name, self._limits = space, name, limits
        self.combinations = space.combinations(seed)
        folder.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
            study_name=name,
            directions=["minimize", "minimize"],  # loss increase, bytes
            load_if_exists=True,
        )
        past = self._study.trials
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(past),  # going on, it does not draw what it drew before
            multivariate=True,
            constant_liar=True,
        )
        made_with = self._study.user_attrs.get("fingerprint", fingerprint)
        if made_with != fingerprint:
            raise PressError(
                f"study {name} was begun with other params, data, code or choices, and its figures do not go with "
                "those of now: give this search another --name, or put back what was changed."
            )
        self._study.set_user_attr("fingerprint", fingerprint)
        self._running: dict[int, Settings] = {}
        for trial in past:
            if trial.state == optuna.trial.TrialState.RUNNING:  # of a process that is no more
                self._give_up(trial.number, trial.params)

    @property
    def measured(self) -> list[Measured]:
        """Every trial that has ended well, by number."""
        found = [
            Measured(**trial.user_attrs["measured"]) for trial in self._study.trials if "measured" in trial.user_attrs
        ]
        return sorted(found, key=lambda each: each.number)

    @property
    def failed(self) -> list[tuple[int, Settings, str]]:
        """(number, settings, why) of every trial that has failed; it would fail again."""
        return [
            (trial.user_attrs["number"], trial.user_attrs["settings"], trial.user_attrs["error"])
            for trial in self._study.trials
            if "error" in trial.user_attrs
        ]

    def begin(self, *, whole: bool) -> None:
        """Queue the present settings, and with ``whole`` all the others."""
        tried = self._tried()
        untried = [settings for settings in self.combinations if _key(settings) not in tried]
        first = [] if tried else untried[:1]
        for settings in untried if whole else first:
            self._study.enqueue_trial(settings, skip_if_exists=True)

    def ask(self) -> "tuple[optuna.Trial, int, Settings] | None":
        """The next settings that were not tried yet; None if there are none."""
        import optuna

        valid = {_key(settings) for settings in self.combinations}
        while True:
            tried = self._tried()
            untried = [settings for settings in self.combinations if _key(settings) not in tried]
            if not untried:
                return None
            trial = self._study.ask()
            settings = self.space.canonical(
                {name: trial.suggest_categorical(name, choices) for name, choices in self.space.choices.items()}
            )
            if _key(settings) in valid and _key(settings) not in tried:
                number = self._free_number()
                trial.set_user_attr("number", number)
                trial.set_user_attr("settings", settings)
                self._running[trial.number] = settings
                return trial, number, settings
            # drawn before, or no such combination: something new instead
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self._study.enqueue_trial(untried[0])

    def tell(self, trial: "optuna.Trial", found: Measured) -> None:
        """Keep what a trial came to."""
        trial.set_user_attr("measured", found.as_json())
        for name, excess in _excess(found, self._limits).items():
            trial.set_constraint(name, excess)
        self._study.tell(trial, [found.loss, float(found.bytes)])
        del self._running[trial.number]

    def fail(self, trial: "optuna.Trial", why: str) -> None:
        """Keep that the settings fail, so that they are not tried again."""
        import optuna

        trial.set_user_attr("error", why)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        del self._running[trial.number]

    def interrupt(self, trial: "optuna.Trial") -> None:
        """Give up a trial that has not ended; the next call begins with it."""
        self._give_up(trial.number, trial.params)
        self._running.pop(trial.number, None)

    def _give_up(self, number: int, params: dict[str, Any]) -> None:
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        if params:
            self._study.enqueue_trial(params)

    def _free_number(self) -> int:
        """The least that no trial has that has ended or runs."""
        taken = {
            trial.user_attrs["number"]
            for trial in self._study.trials
            if trial.number in self._running or any(name in trial.user_attrs for name in ENDED)
        }
        return next(number for number in count(1) if number not in taken)

    def _tried(self) -> set[str]:
        ended = {
            _key(trial.user_attrs["settings"])
            for trial in self._study.trials
            if any(name in trial.user_attrs for name in ENDED)
        }
        return ended | {_key(settings) for settings in self._running.values()}


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _excess(found: Measured, limits: Limits) -> dict[str, float]:
    """How far a trial is above the limits that are known before its speed is; Optuna prefers those at or below 0."""
    excess = {}
    if limits.max_loss_increase is not None:
        excess["loss"] = found.high - limits.max_loss_increase
    if limits.max_megabytes is not None:
        excess["megabytes"] = found.megabytes / limits.max_megabytes - 1
    return excess


def fingerprint(root: Path, asked: str, files: list[str]) -> str:
    """A hash of what trials are made by: what is ``asked``, dvc.yaml, the code its stages name, and data ``files``."""
    pipeline = (root / "dvc.yaml").read_text(encoding="utf-8")
    stages = yaml.safe_load(pipeline)["stages"]
    deps = {dep for name in STAGES if name in stages for dep in stages[name].get("do", stages[name])["deps"]}
    digest = hashlib.sha256(f"{asked}\0{pipeline}".encode())
    for name in sorted({*deps, *files}):
        if "${" in name or name.startswith("models/"):  # data, which ``files`` has, and what stages write
            continue
        place = root / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"\0{name}\0{path.name}\0".encode())
                digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def run(
    study: Study, workplaces: list[Workplace], processes: Processes, budget: Budget, say: Callable[[str], None]
) -> bool:
    """Try settings until the budget ends; whether that was so, and not a Ctrl-C. No trial that has ended is lost."""
    began = time.monotonic()
    deadline = None if budget.seconds is None else began + budget.seconds * (1 - SPEED_SHARE)
    total = budget.total(len(study.combinations))
    study.begin(whole=budget.whole(len(study.combinations)))
    free: SimpleQueue[Workplace] = SimpleQueue()
    for each in workplaces:
        free.put(each)
    locks, running, took = Locks(), {}, []

    def work(number: int, settings: Settings) -> Measured:
        place = free.get()
        try:
            return place.run(number, settings, study.space.keys(settings), f"{study.name}-{number:03d}", locks)
        finally:
            free.put(place)

    def room() -> bool:
        done = len(study.measured) + len(study.failed) + len(running)
        late = deadline is not None and time.monotonic() + (sum(took) / len(took) if took else 0) > deadline
        return len(running) < len(workplaces) and done < total and not late and not processes.stopped

    def left() -> str:
        undone = total - len(study.measured) - len(study.failed)
        seconds = undone * sum(took) / len(took) / min(len(workplaces), max(undone, 1)) if took else None
        if deadline is not None:
            until = max(deadline - time.monotonic(), 0)
            seconds = until if seconds is None else min(seconds, until)
        return f"; about {duration(seconds)} left" if undone and seconds is not None else ""

    def end(future: "Future[Measured]") -> None:
        trial, number, settings = running.pop(future)
        head = f"[{number}/{total}] {short(settings)}"
        try:
            found = future.result()
        except InterruptedTrial:
            study.interrupt(trial)
            say(f"{head}: interrupted; the next call begins with it")
        except (TrialError, PressError) as error:
            study.fail(trial, str(error))
            say(f"{head}: failed: {error}{left()}")
        else:
            study.tell(trial, found)
            took.append(found.seconds)
            interval = f"({found.low:+.4f} to {found.high:+.4f})"
            size = f"{found.megabytes:.1f} MB"
            say(f"{head}: loss {found.loss:+.4f} {interval}, {size}, {duration(found.seconds)}{left()}")

    with ThreadPoolExecutor(len(workplaces)) as pool:
        try:
            while True:
                while room() and (asked := study.ask()):
                    _, number, settings = asked
                    say(f"[{number}/{total}] {short(settings)}: running")
                    running[pool.submit(work, number, settings)] = asked
                if not running:
                    return True
                until = None if deadline is None else max(deadline - time.monotonic(), 0)
                done, _ = wait(running, until, FIRST_COMPLETED)
                for future in done:
                    end(future)
                if not done:
                    say("The time is up: what still runs is interrupted.")
                    deadline = None
                    processes.stop()
        except KeyboardInterrupt:
            processes.stop()
            wait(running)
            for future in list(running):
                end(future)
            return False
        except BaseException:  # a bug: what runs would go on without anybody to tell
            processes.stop()
            raise
