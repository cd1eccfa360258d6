"""Rows of a step that are about as long, so that little of it is padding.

Imported by a process that trains: it loads transformers.
"""

from typing import Any

import torch
import transformers
from transformers.trainer_pt_utils import LengthGroupedSampler


class ByLength(transformers.Trainer):
    """A Trainer whose steps take rows of about one length, once it was told the lengths.

    By transformers' own setting each of several processes would group the rows of its part of a step: steps would not
    have the rows that one process gives them.
    """

    _lengths: tuple[list[int], int] | None = None

    def group_by_length(self, lengths: list[int], rows: int) -> None:
        """``lengths`` of the rows to train on, in tokens; ``rows`` are in a step, whoever shares them."""
        self._lengths = lengths, rows

    def _get_train_sampler(self, *arguments: Any) -> torch.utils.data.Sampler | None:
        if self._lengths is None:
            return super()._get_train_sampler(*arguments)
        lengths, rows = self._lengths
        generator = torch.Generator().manual_seed(self.args.data_seed)
        return LengthGroupedSampler(rows, lengths=lengths, generator=generator)
