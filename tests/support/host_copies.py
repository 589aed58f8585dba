"""A watch over operations that make a GPU wait for the host."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoHostCopies(TorchDispatchMode):
    """Refuses what makes a GPU wait: reading a value, and shapes that may depend on values."""

    def __init__(self, only_reads=False):
        super().__init__()
        aten = torch.ops.aten
        self.refused = [aten._local_scalar_dense.default, aten.nonzero.default]
        if not only_reads:  # an index of whole numbers is harmless, one of booleans is not
            self.refused.append(aten.index.Tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in self.refused, func
        return func(*args, **(kwargs or {}))
