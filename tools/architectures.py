"""The table in docs/architectures.md, from olivepress/core/architectures.py: `python -m tools.architectures`."""

import re
from pathlib import Path

from olivepress.core.architectures import ACTIVATIONS, AWQ, REFUSED, ROTATIONS, STEP, WORKS

PAGE = Path(__file__).parents[1] / "docs/architectures.md"
PLACE = re.compile(r"(?<=<!-- begin: python -m tools.architectures -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    """What stands between the marks of the page."""
    rows = {
        name: (kind, "works" if kind in AWQ else "works by rtn (AutoAWQ has no recipe)") for name, kind in WORKS.items()
    }
    rows |= {name: ("", f"refused: {why}") for name, why in REFUSED.items()}
    lines = [f"| {name} | {kind} | {what} |" for name, (kind, what) in sorted(rows.items())]
    return "\n".join(
        (
            "| architecture | model_type | |",
            "|---|---|---|",
            *lines,
            "",
            "Of those that work, fetch also refuses",
            "",
            f"- heads whose size, or rotated part, is no multiple of {STEP} (ONNX Runtime's attention);",
            f"- a `rope_type` other than {', '.join(ROTATIONS)}; `longrope` in anything but Phi3ForCausalLM;",
            f"- an activation other than {', '.join(ACTIVATIONS)}; `clip_qkv`.",
            "",
        )
    )


if __name__ == "__main__":
    PAGE.write_text(PLACE.sub(lambda match: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
