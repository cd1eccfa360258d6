"""What of AutoAWQ is loaded for what."""

import subprocess
import sys


def test_unpacking_needs_no_more_than_its_module():
    code = (
        "import sys, torch; from olivepress.modeling.autoawq import packing\n"
        "parts = torch.zeros(32, 1).int(), torch.zeros(1, 1).int(), torch.ones(1, 8)\n"
        "weights = packing().dequantize_gemm(*parts, 4, 32)\n"
        "print(tuple(weights.shape), 'awq' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(32, 8) False False"
