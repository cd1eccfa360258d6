"""Write data/general-tiny.jsonl: question-answer pairs of the embedded base's own text that it was not trained on.

They show what quantization costs where the base is at home. Seeded: the same file every time.
"""

import json
import random
from pathlib import Path

from tools import tiny_phi3_text

OUT = Path(__file__).parents[1] / "data/general-tiny.jsonl"
ROWS = 160


def main() -> None:
    """Pick ROWS held-out questions by seed 0 and write them as prompt/response rows."""
    pairs = {
        question: answer
        for group in tiny_phi3_text.question_groups()
        for question, answer in group
        if tiny_phi3_text.is_held_out(question)
    }
    chosen = random.Random(0).sample(sorted(pairs.items()), ROWS)
    lines = [json.dumps({"prompt": prompt, "response": answer}, ensure_ascii=False) for prompt, answer in chosen]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
