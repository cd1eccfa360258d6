"""The kernel of error feedback gives PyTorch's bits; without it there is a word, and the same bits later."""

import pytest
import torch

from olivepress.quantize import error_feedback
from olivepress.quantize.error_feedback import round_with_feedback
from olivepress.quantize.grid import to_grid


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("outputs", "inputs", "group"), [(576, 1536, 64), (33, 128, 32), (192, 576, 64), (1, 320, 32)])
def test_the_same_bits(monkeypatch, bits, outputs, inputs, group):
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs, device="cuda")
    x = torch.randn(2048, inputs, device="cuda") * torch.rand(inputs, device="cuda").mul(4).exp()
    _, scales, zeros = to_grid(weight, group, zero_point=True, bits=bits)
    given = weight, x.T @ x, scales.float(), zeros
    found = round_with_feedback(*given, bits=bits)
    assert error_feedback._kernel() is not None
    monkeypatch.setattr(error_feedback, "_kernel", lambda: None)
    assert torch.equal(found, round_with_feedback(*given, bits=bits))
    assert found.unique().numel() > 2


def test_not_a_number_stays_one():
    """A layer that overflowed is refused for it later."""
    weight = torch.ones(8, 128, device="cuda")
    weight[3, 5] = torch.nan
    scales = torch.ones(8, 2, device="cuda")
    found = round_with_feedback(weight, torch.eye(128, device="cuda"), scales, scales, bits=4)
    assert found[3].isnan().any()
    assert not found[2].isnan().any()
