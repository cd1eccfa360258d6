"""Run one of llama.cpp's own converters on a checkpoint of tools/make_random.py.

Arguments: the folder of llama.cpp, the converter's name, and the converter's arguments; that folder and its gguf-py
must be on PYTHONPATH. The converter tells how text is to be split from a hash that it knows; it knows none of our
tokenizer, which is split as GPT-2's is.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Name the pre-tokenizer, run the converter as a script."""
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    sys.argv = [str(Path(sys.argv[1]) / sys.argv[2]), *sys.argv[3:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
