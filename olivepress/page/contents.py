"""What the page says, section by section, before it is HTML: the results of one run under names that people read.

What was not measured is None or empty here, and the template says that it is missing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from olivepress.core.gates import GENERAL, Verdict
from olivepress.page import charts
from olivepress.page.charts import Chart
from olivepress.page.figures import METRICS, figure, in_parts, size
from olivepress.results.reader import Results

# Step of the pipeline -> its name and its colour in plots. ONNX: as ONNX Runtime computes it, which is what ships.
STEPS = {
    "base": ("Base", "var(--quiet)"),
    "quantized": ("Quantized", "var(--second)"),
    "quantized_onnx": ("Quantized, ONNX", "var(--second)"),
    "quantized_operators": ("Quantized, ONNX with operators", "var(--second)"),
    "finetuned": ("With {adapter}", "var(--accent)"),
    "finetuned_onnx": ("With {adapter}, ONNX", "var(--accent)"),
    "finetuned_operators": ("With {adapter}, ONNX with operators", "var(--accent)"),
}
COMPARED = ("loss", "rouge_l", "exact_match")  # perplexity says no more than the loss
ADAPTED = ("finetuned", "finetuned_onnx", "finetuned_operators")
OF_EXPORT = ("kl_divergence", "same_top_token")  # of ONNX Runtime against PyTorch: figures of the exported step
BASE, QUANTIZED = "models/base", "models/quantized"


@dataclass(frozen=True)
class Adapter:
    """What an adapter was made of. ``data``: path, kind of hash and hash of each source; rows by side of the split."""

    name: str
    data: list[tuple[str, str, str]]
    rows: dict[str, int]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """What was made from what; ``facts``: (name, what is known)."""

    facts: list[tuple[str, str]]
    adapters: list[Adapter]


@dataclass(frozen=True)
class Size:
    """A model or an adapter: what it is, where, bytes, and those as a share of the base's; None if it has none."""

    label: str
    path: str
    bytes: int
    share: float | None


@dataclass(frozen=True)
class Cell:
    """A metric's value with its 95 % interval, where that was computed."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Step:
    """A row of a table of quality; ``cells``: metric -> value."""

    label: str
    colour: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Measured:
    """A data set that was measured: how many rows and tokens of answers, and what each step made of it."""

    title: str
    note: str
    rows: int | None
    tokens: int | None
    steps: list[Step]
    chart: Chart | None

    @property
    def metrics(self) -> list[str]:
        """Those that any step has, in the order of METRICS."""
        return [name for name in METRICS if any(name in step.cells for step in self.steps)]


@dataclass(frozen=True)
class Difference:
    """Of one step from an earlier one on the same rows, paired; ``cells``: metric -> difference."""

    later: str
    earlier: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Exchange:
    """A question, what an answer should be like where that is known, and who -> answer."""

    prompt: str
    reference: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Speed:
    """What smoke-infer measured of one way to run a target. Seconds, tokens a second; None where it did not."""

    who: str
    tokens_per_second: float | None
    first_token: float | None
    load: float | None
    machine: str


@dataclass(frozen=True)
class Target:
    """Everything about one exported model."""

    name: str
    outdated: bool
    never_run: bool
    thresholds: list[tuple[str, list[Verdict]]]
    measured: list[Measured]
    differences: dict[str, list[Difference]]
    speeds: list[Speed]
    speed_chart: Chart | None
    asked: list[Exchange]
    samples: dict[str, list[Exchange]]


@dataclass(frozen=True)
class Curve:
    """An adapter's training: its chart, and what was held out of it, (step, loss)."""

    adapter: str
    chart: Chart | None
    held_out: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Contents:
    """The page, but for what git says. ``verdict``: passed, missed, outdated or unmeasured."""

    name: str
    version: str
    verdict: str
    results: Results
    origin: Origin
    sizes: list[Size]
    size_chart: Chart | None
    curves: list[Curve]
    targets: list[Target]


def contents(results: Results) -> Contents:
    """What there is to say about ``results``."""
    standing, params = results.standing, results.params
    if standing.unmeasured:
        verdict = "unmeasured"
    elif standing.outdated:
        verdict = "outdated"
    else:
        verdict = "missed" if standing.missed else "passed"
    weights = sizes(results)
    return Contents(
        name=params["register"]["name"],
        version=params["register"]["version"],
        verdict=verdict,
        results=results,
        origin=origin(results),
        sizes=weights,
        size_chart=size_chart(weights),
        curves=[curve(results, name) for name in results.adapters],
        targets=[target(results, name) for name in results.targets],
    )


def origin(results: Results) -> Origin:
    """Base, licence, quantization; each adapter with its data and their hashes, which dvc.lock has."""
    params, base, fetched = results.params, results.json("models/inputs/base.json"), results.read("quality/fetch")
    quantize, quantized = params["quantize"], results.read("quality/quantize")
    facts = [("Base", params["model"]["source"])]
    if base:
        facts.append(("Architecture", base["architecture"]))
    if fetched:
        facts.append(("Parameters", f"{fetched['parameters']:,}"))
    facts.append(("Licence", params["register"]["licence"]))
    parts = [quantize["algorithm"], f"{quantize['bits']} bits in groups of {quantize['group_size']}"]
    if quantize.get("average_bits"):
        parts.append(f"more for some layers: {quantize['average_bits']} bits on the average")
    if steps := quantize.get("distill_steps"):
        parts.append(f"scales trained for {steps} steps")
    parts.append("a zero point" if quantize["zero_point"] else "no zero point")
    facts.append(("Quantization", ", ".join(parts)))
    if quantized:
        facts.append(("Bits a weight", f"{quantized['bits_per_weight']:g}, the whole checkpoint"))
    facts.append(("Calibrated on", _with_hash(results, "quantize", quantize["calibration_data"])))
    for name, settings in params["targets"].items():
        precision = f"{settings['precision']} on {settings['provider'].removesuffix('ExecutionProvider')}"
        stored = f"output head {settings['lm_head']}, embedding {settings.get('embedding', 'int8')}"
        parts = results.read(f"quality/auto-opt/{name}").get("bytes_by_part", {})
        facts.append((f"Target {name}", ", ".join(filter(None, (precision, stored, in_parts(parts))))))
    return Origin(facts, [adapter(results, name) for name in results.adapters])


def adapter(results: Results, name: str) -> Adapter:
    """An adapter's data, its rows, and the settings that are its own.

    What prepare read, by SHA-256, where its record is here; else what the params name, by dvc.lock's MD5.
    """
    settings = results.params["adapters"].get(name, {})
    read = results.json(f"models/inputs/data/{name}.json")
    if read:
        paths, digests = ([found] if isinstance(found, str) else found for found in (read["data"], read["sha256"]))
        data = [(path, "SHA-256", digest) for path, digest in zip(paths, digests, strict=True)]
    else:
        named = settings.get("data", "")
        data = [(named, "MD5", _hash(results, f"prepare@{name}", named))]
    counted = results.read(f"quality/prepare/{name}")
    rows = {side: part["rows"] for side, part in counted.items() if isinstance(part, dict) and "rows" in part}
    return Adapter(name, data, rows, settings.get("lora", {}))


def _with_hash(results: Results, stage: str, path: str) -> str:
    found = _hash(results, stage, path)
    return f"{path} (MD5 {found[:12]}…)" if found else path


def _hash(results: Results, stage: str, path: str) -> str:
    """The MD5 of a dependency in dvc.lock, or nothing."""
    deps = results.lock.get(stage, {}).get("deps", [])
    return next((str(dep.get("md5", "")) for dep in deps if dep["path"] == path), "")


def sizes(results: Results) -> list[Size]:
    """The base, what was made of it, and each adapter, in the order of the pipeline."""
    found, base = results.models, results.models.get(BASE)
    labels = {BASE: "Base", QUANTIZED: "Quantized checkpoint"}
    for name in results.targets:
        labels[f"models/onnx/{name}/model"] = f"Exported, {name}"
        for each in results.adapters:
            labels[f"models/onnx/{name}/adapters/{each}.onnx_adapter"] = f"Adapter {each}, {name}"
    return [
        Size(label, path, found[path], found[path] / base if base and "/adapters/" not in path else None)
        for path, label in labels.items()
        if path in found
    ]


def size_chart(found: list[Size]) -> Chart | None:
    """The whole models as bars; adapters are too small to see beside them."""
    models = [each for each in found if each.share is not None]
    if len(models) < 2:
        return None
    colours = {BASE: "var(--quiet)", QUANTIZED: "var(--second)"}
    drawn = [
        (each.label, each.bytes / 1e6, size(each.bytes), colours.get(each.path, "var(--accent)")) for each in models
    ]
    text = "; ".join(f"{label}: {written}" for label, _, written, _ in drawn)
    return Chart(charts.bars(drawn, "MB"), f"Sizes. {text}.")


def curve(results: Results, name: str) -> Curve:
    """The losses of an adapter's training."""
    points = [(row["rows"], int(row["step"]), float(row["loss"])) for row in results.rows(f"plots/training/{name}")]
    held_out = [(step, loss) for rows, step, loss in points if rows == "held out"]
    if not points:
        return Curve(name, None)
    parts = []
    for rows in ("held out", "training"):
        of_rows = [(step, loss) for found, step, loss in points if found == rows]
        if of_rows:
            (first, before), (last, after) = of_rows[0], of_rows[-1]
            parts.append(f"{rows} from {before:.3f} at step {first} to {after:.3f} at step {last}")
    of_preferences = "preference_loss" in (results.read(f"quality/finetune/{name}") or {})
    drawn = charts.curves(points, "loss of preferences" if of_preferences else "nats a token")
    return Curve(name, Chart(drawn, f"Loss of {name} while training: {'; '.join(parts)}."), held_out)


def target(results: Results, name: str) -> Target:
    """What was measured of one exported model."""
    given = results.standing.found
    order = list(results.params["thresholds"])
    verdicts = sorted((each for of, each in given if of == name), key=lambda each: order.index(each.threshold))
    spread = {data: results.read(f"intervals/{name}/{data}") or [] for data in (*results.adapters, GENERAL)}
    speeds = list(_speeds(results, name))
    return Target(
        name=name,
        outdated=results.outdated(name),
        never_run=results.never_run(name),
        thresholds=[(key, list(several)) for key, several in groupby(verdicts, key=lambda each: each.threshold)],
        measured=list(_measured(results, name, spread)),
        differences=_differences(spread),
        speeds=speeds,
        speed_chart=_speed_chart(name, speeds),
        asked=[
            Exchange(prompt, "", {f"With {who}" if who else "No adapter": text for who, text in answers.items()})
            for prompt, answers in results.answers(name).items()
        ],
        samples=_samples(results, name),
    )


def _measured(results: Results, target: str, spread: dict[str, list[dict[str, Any]]]) -> Iterator[Measured]:
    """Each adapter's held-out rows; then the general set, without an adapter and with each of them on."""
    found = {name: results.read(f"quality/evaluate/{target}/{name}") for name in results.adapters}
    for name, sets in found.items():
        if "held_out" in sets:
            steps = list(_steps(sets["held_out"], "held_out", spread[name], name))
            yield _set(_title(name, "held_out"), "What the adapter was trained for.", sets["held_out"], steps)
    plain = results.read(f"quality/evaluate-base/{target}").get(GENERAL, {})
    steps = list(_steps(plain, GENERAL, spread[GENERAL], ""))
    for name, sets in found.items():
        tuned = _steps(sets.get(GENERAL, {}), GENERAL, spread[name], name, ADAPTED)
        steps += tuned
    if steps:
        note = "Everyday questions that no adapter was trained for: what an adapter makes worse here, it forgot."
        counted = plain or next(sets[GENERAL] for sets in found.values() if GENERAL in sets)
        yield _set(_title("", GENERAL), note, counted, steps)


def _steps(
    measured: dict[str, Any], data: str, spread: list[dict[str, Any]], adapter: str, only: Iterable[str] = STEPS
) -> Iterator[Step]:
    """The steps of one set, each with the metrics that it has. ``spread``: the set's intervals."""
    around = {
        (each["metric"], each["step"]): (each["low"], each["high"])
        for each in spread
        if each["set"] == data and each["minus"] is None
    }
    for step in only:
        label, colour = STEPS[step]
        cells = {}
        for metric in METRICS:
            key = step.removesuffix("_onnx") if metric in OF_EXPORT else step
            value = measured.get(metric, {}).get(key)
            if value is not None and (metric not in OF_EXPORT or step.endswith(("_onnx", "_operators"))):
                cells[metric] = Cell(value, *around.get((metric, key), (None, None)))
        if cells:
            yield Step(label.format(adapter=adapter), colour, cells)


def _set(title: str, note: str, measured: dict[str, Any], steps: list[Step]) -> Measured:
    drawn = [
        (step.label, cell.value, cell.low, cell.high, step.colour) for step in steps if (cell := step.cells.get("loss"))
    ]
    chart = None
    if drawn:
        text = "; ".join(f"{label} {value:.3f}" for label, value, *_ in drawn)
        chart = Chart(charts.intervals(drawn, "loss, nats a token"), f"{title}. Loss, nats a token: {text}.")
    return Measured(title, note, measured.get("rows"), measured.get("tokens"), steps, chart)


def _differences(spread: dict[str, list[dict[str, Any]]]) -> dict[str, list[Difference]]:
    """Title of a set -> every difference between two steps that has an interval."""
    found: dict[str, dict[tuple[str, str], Difference]] = {}
    for data, several in spread.items():
        for each in several:
            if each["minus"] is None or each["metric"] not in COMPARED:
                continue
            later, earlier = (STEPS[each[key]][0].format(adapter=data) for key in ("step", "minus"))
            pairs = found.setdefault(_title(data, each["set"]), {})
            cells = pairs.setdefault((later, earlier), Difference(later, earlier, {})).cells
            cells[each["metric"]] = Cell(each["value"], each["low"], each["high"])
    return {title: list(pairs.values()) for title, pairs in found.items()}


def _samples(results: Results, target: str) -> dict[str, list[Exchange]]:
    """Title of a set -> some of its rows as each step answers them; a row that several adapters answer is one."""
    found: dict[str, dict[str, Exchange]] = {}
    for name in (GENERAL, *results.adapters):
        for row in results.read(f"samples/{target}/{name}") or []:
            rows = found.setdefault(_title(name, row["set"]), {})
            one = rows.setdefault(row["prompt"], Exchange(row["prompt"], row.get("reference") or "", {}))
            for step in STEPS:
                if step in row["answers"]:
                    one.answers.setdefault(STEPS[step][0].format(adapter=name), row["answers"][step])
    return {title: list(rows.values()) for title, rows in found.items()}


def _title(name: str, data: str) -> str:
    """What a set is called: the rows held out of an adapter's data, or those that none was trained for."""
    return "General questions" if data == GENERAL else f"{name}: its held-out rows"


def _speeds(results: Results, target: str) -> Iterator[Speed]:
    """Without an adapter (as the first one's run has it), and with each."""
    for name in results.adapters:
        found = results.cost(f"smoke-infer@{name}-{target}")
        facts = results.json(f"results/machine/facts/smoke-infer/{target}/{name}.json")
        if "tokens_per_second" not in found:
            continue
        rates, firsts = found.get("tokens_per_second", {}), found.get("seconds_to_first_token", {})
        common = (found.get("load_seconds"), machine(facts))
        if "no_adapter" in rates and name == results.adapters[0]:
            yield Speed("No adapter", rates["no_adapter"], firsts.get("no_adapter"), *common)
        yield Speed(f"With {name}", rates.get("adapter"), firsts.get("adapter"), *common)


def machine(facts: dict[str, Any]) -> str:
    """A line about the machine that costs were measured on; empty where nothing is known of it."""
    parts = [facts.get("gpu"), facts.get("processor") or facts.get("machine")]
    if "cpus" in facts:
        parts.append(f"{facts['cpus']} cores")
    return ", ".join(part for part in parts if part)


def _speed_chart(target: str, speeds: list[Speed]) -> Chart | None:
    drawn = [
        (each.who, each.tokens_per_second, figure(each.tokens_per_second), _colour(each.who))
        for each in speeds
        if each.tokens_per_second
    ]
    if not drawn:
        return None
    text = "; ".join(f"{label}: {written}" for label, _, written, _ in drawn)
    return Chart(charts.bars(drawn, "tokens a second"), f"Tokens a second of {target}. {text}.")


def _colour(who: str) -> str:
    return "var(--second)" if who == "No adapter" else "var(--accent)"
