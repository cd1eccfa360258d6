"""Print the bytes of weights that a token reads of each GGUF file given, as JSON by file stem.

llama.cpp's gguf-py must be on PYTHONPATH. Of the embedding a token reads one row, which is not counted.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Add up the tensors of every file."""
    from gguf import GGUFReader

    sizes = {
        Path(path).stem: sum(int(t.n_bytes) for t in GGUFReader(path).tensors if t.name != "token_embd.weight")
        for path in sys.argv[1:]
    }
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
