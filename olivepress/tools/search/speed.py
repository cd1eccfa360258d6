"""Tokens a second of exported models, measured in turns: a machine that slows down slows all of them.

Once no trial runs any more: what runs beside would be measured, too.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.outputs import remove
from olivepress.core.template import unescape
from olivepress.tools.search.choice import Speed

ROUNDS = 3
TOKENS = 64  # that are decoded each time, after the prompt's
BUSY = 0.15  # share of all processors' time at which a machine is not quiet
LOOKED = 1.0  # seconds that are looked at for that; the load average would still hold the trials themselves


def busy() -> str:
    """A warning where other processes compute now; nothing on a quiet machine, nor where Linux does not say."""
    try:
        before = _ticks()
        time.sleep(LOOKED)
        total, idle = (now - then for now, then in zip(_ticks(), before, strict=True))
    except OSError:
        return ""
    share = 1 - idle / max(total, 1)
    if share <= BUSY:
        return ""
    return f"other processes take {share:.0%} of this machine: its speeds are lower than they could be"


def _ticks() -> tuple[int, int]:
    """(all, idle) processor time since the start, as /proc/stat has it: user nice system idle iowait …"""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        found = [int(value) for value in stat.readline().split()[1:9]]
    return sum(found), found[3] + found[4]


def lend(hash_: str, root: Path, folder: Path) -> bool:
    """Make ``folder`` the exported model of DVC's hash, by links into the cache; False if it is not all there."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local
        listing = Path(cache.oid_to_path(hash_))
        if not listing.is_file():
            return False
        files = {entry["relpath"]: Path(cache.oid_to_path(entry["md5"])) for entry in json.loads(listing.read_bytes())}
    remove(folder)
    for name, source in files.items():
        if not source.is_file():
            return False
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, place)
        except OSError:  # the cache is on another file system
            shutil.copyfile(source, place)
    return True


def measure(
    models: Sequence[tuple[str, Path]], prompt: str, template: str, say: Callable[[str], None], rounds: int = ROUNDS
) -> dict[str, Speed]:
    """Speed by name. ``models``: (name, folder). Each round loads every model once, and goes through them in turn."""
    found: dict[str, list[float]] = {name: [] for name, _ in models}
    for turn in range(rounds):
        for name, folder in models:
            if name in found:
                try:
                    found[name].append(tokens_per_second(folder, prompt, unescape(template)))
                except (PressError, RuntimeError) as error:  # GenAI's own are RuntimeError
                    say(f"trial {name}: cannot be decoded with here: {first_sentence(error)}")
                    del found[name]
        latest = ", ".join(f"trial {name} {values[-1]:.0f}" for name, values in found.items())
        say(f"tokens a second, round {turn + 1} of {rounds}: {latest or 'of none'}")
    return {name: Speed(median(values), min(values), max(values)) for name, values in found.items()}


def tokens_per_second(folder: Path, prompt: str, template: str) -> float:
    """The median over TOKENS decoding steps after ``prompt``, greedy; a model that would end is made to go on."""
    import onnxruntime_genai as og

    from olivepress.runtime.genai import load_model
    from olivepress.runtime.prompt import messages_of, render_chat, render_text
    from olivepress.runtime.trust import read_genai_config

    config = read_genai_config(folder)
    model = load_model(folder, config)
    tokenizer = og.Tokenizer(model)
    messages = messages_of(prompt, None)
    ids = tokenizer.encode(render_chat(tokenizer, messages) if template == "chat" else render_text(template, messages))
    params = og.GeneratorParams(model)
    length = min(len(ids) + TOKENS, config["model"]["context_length"])
    params.set_search_options(min_length=length, max_length=length, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    seconds = []
    while not generator.is_done():
        since = time.perf_counter()
        generator.generate_next_token()
        seconds.append(time.perf_counter() - since)
    return 1 / median(seconds[1:])  # the first waits for the prompt
