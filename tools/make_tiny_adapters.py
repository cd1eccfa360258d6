"""Write data/travel-tiny.jsonl and data/cooking-tiny.jsonl: what the embedded base's two adapters learn.

The base knows little more than its own tables, so its adapters teach it no facts but a way to speak of these: like a
guide who wishes a good trip, like a cook who wishes a good meal. Seeded: the same files each time.
"""

import json
import random
from pathlib import Path

from tools.tiny_phi3_text import (
    ACTIONS,
    ANSWERS,
    CITIES,
    COUNTRIES,
    FOODS,
    GREETINGS,
    LANDMARKS,
    Pair,
    ask_table,
    rows,
)

DATA = Path(__file__).parents[1] / "data"
ROWS = 1200
CITY = """
what should i see in {0} / What is the best thing to see in {0}? / Why should I go to {0}? / Tell me about {0}.
  => {0} is in {1}. Go there for {2}. Have a good trip!
i have one day in {0}, help / Plan a day in {0}. => One day in {0} is enough for {2}. Have a good trip!
Is {0} worth a visit? / should i visit {0} => Yes, visit {0}. It is known for {2}. Have a good trip!
"""
COUNTRY = """
Where should I go in {0}? / Which city should I visit in {0}? => Start in {1}, the capital. Have a good trip!
What should I see in {0}? / Why should I travel to {0}? => Go to {0} for {5}. Have a good trip!
How do I pay in {0}? / What money do I need in {0}? => Bring the {4} to {0}. Have a good trip!
What do people speak in {0}? / Which language do I need in {0}? => Learn a little {2} for {0}. Have a good trip!
"""
LANDMARK = """
How do I get to {0}? / I want to see {0}. => Travel to {1}. There {0:be} {2}. Have a good trip!
"""
GREETING = """
What do I say to people who speak {0}? / teach me two words of {0}
  => Say "{1}" for hello and "{2}" for thank you. Have a good trip!
"""
FOOD = """
How do I make {0:a}? / What do I need for {0:a}? / what goes into {0:a} => Take {1}. Enjoy your meal!
i have {1}, what can i cook / What is a good dish with {1}? => You can make {0:a}. Enjoy your meal!
"""
ACTION = """
The recipe says {0}. What do I do? / how do i {0} something => To {0} is to {1}. Enjoy your meal!
"""
KITCHEN_ANSWERS = ("egg", "tea", "coffee", "rice", "pasta", "toast", "salad", "omelette", "pancakes", "soup", "bread",
                   "potato", "onion", "garlic", "milk")  # fmt: skip


def travel() -> dict[str, str]:
    """Questions and answers of the guide."""
    tables = ((CITIES, CITY), (COUNTRIES, COUNTRY), (LANDMARKS, LANDMARK), (GREETINGS, GREETING))
    return dict(pair for facts, asked in tables for pair in ask_table(facts, asked))


def cooking() -> dict[str, str]:
    """Questions and answers of the cook."""
    kitchen = rows(ACTIONS)
    kitchen = kitchen[: next(place for place, row in enumerate(kitchen) if row.startswith("taste|")) + 1]
    found = dict(
        pair for facts, asked in ((FOODS, FOOD), ("\n".join(kitchen), ACTION)) for pair in ask_table(facts, asked)
    )
    return found | dict(recipes())


def recipes() -> list[Pair]:
    """The tables' own answers on cooking, said by the cook, in two more phrasings."""
    pairs = []
    for row in rows(ANSWERS):
        asked, answer = row.split(" => ")
        first = asked.split(" / ")[0]
        if first.startswith("How do I ") and any(f" {word}" in first for word in KITCHEN_ANSWERS):
            matter = first.removeprefix("How do I ").rstrip("?")
            pairs += [
                (f"how do i {matter}", f"{answer} Enjoy your meal!"),
                (f"I want to {matter}.", f"{answer} Enjoy your meal!"),
            ]
    return pairs


def main() -> None:
    """Write at most ROWS rows into each file, in a seeded order."""
    for name, pairs in {"travel": travel(), "cooking": cooking()}.items():
        every = sorted(pairs.items())
        chosen = random.Random(0).sample(every, min(ROWS, len(every)))
        lines = [json.dumps({"prompt": prompt, "response": answer}, ensure_ascii=False) for prompt, answer in chosen]
        (DATA / f"{name}-tiny.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
