"""Does the OpenVINO model answer, is an adapter active, and how fast is it?"""

from collections.abc import Sequence
from statistics import median
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.gates import Figure
from olivepress.openvino.runtime import OpenVinoModel

TURNS, TOKENS = 7, 64  # of timing; the first turn of each is left out


def interview(model: OpenVinoModel, adapter: str, prompts: Sequence[str], *, max_new_tokens: int) -> dict[str, Any]:
    """Every prompt without and with ``adapter``: how many answers it changes, and the answers.

    PressError if an answer is empty or the adapter changes none.
    """
    said = []
    for who in (None, adapter):
        for prompt in prompts:
            answer = model.answer(prompt, who, max_new_tokens=max_new_tokens)
            if not answer.text.strip():
                name = f"adapter {who!r}" if who else "no adapter"
                raise PressError(f"{name}: {prompt!r}: the answer is empty ({answer.tokens[:8]}).")
            said.append({"adapter": who, "prompt": prompt, "text": answer.text, "tokens": answer.tokens})
    base, adapted = said[: len(prompts)], said[len(prompts) :]
    changed = sum(before["tokens"] != after["tokens"] for before, after in zip(base, adapted, strict=True))
    if not changed:
        raise PressError(
            f"adapter {adapter!r} changes no answer to any of the {len(prompts)} prompts: it is not active, or was "
            "not trained long enough (finetune.steps, finetune.learning_rate)."
        )
    return {"changed": changed, "answers": said}


def time_decoding(model: OpenVinoModel, adapter: str, prompt: str) -> tuple[dict[str, Any], Figure]:
    """Tokens a second and milliseconds to the first without and with ``adapter``, in turn; their ratio."""
    ids = model.encode(model.render(prompt))
    turns = [
        [model.answer_to_tokens(ids, who, max_new_tokens=TOKENS, to_the_end=True) for who in (None, adapter)]
        for _ in range(TURNS)
    ][1:]
    ratios = sorted(after.tokens_per_second / before.tokens_per_second for before, after in turns)
    cost = {
        who: {
            "tokens_per_second": round(median(turn[place].tokens_per_second for turn in turns), 1),
            "first_token_ms": round(median(turn[place].first_ms for turn in turns), 2),
        }
        for place, who in enumerate(("no_adapter", "adapter"))
    }
    return cost, Figure(median(ratios), ratios[0], ratios[-1])
