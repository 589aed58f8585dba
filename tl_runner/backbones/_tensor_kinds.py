"""Whether a tensor of a file can be taken for one of a network as it is."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def unfit(given: Tensor, own: Tensor) -> tuple[str, str] | None:
    """Why a tensor of a file is no value for a network's ``own``, and the cure; None if it is one.

    PyTorch copies whatever it can convert: integers into weights, and of complex numbers a half.
    """
    if given.is_meta:
        return "has a shape and no values (device meta)", "Save a network that has its weights."
    if given.layout is not torch.strided:
        return f"is stored as {_name(given.layout)}", "Save it by to_dense()."
    if given.is_quantized:
        return f"is quantized ({_name(given.dtype)})", "Save the weights before quantization."
    if _kind(given.dtype) == _kind(own.dtype):
        return None
    kinds = FLOATS if own.dtype in FLOATS else INTEGERS if own.dtype in INTEGERS else (own.dtype,)
    return (
        f"is {_name(given.dtype)}, and the network's is {_name(own.dtype)}",
        f"Save the weights as they were trained: in {' or '.join(map(_name, kinds))}.",
    )


def _kind(dtype: torch.dtype) -> object:
    """Types of one kind keep a number what it is; eight bits of a float do not."""
    return next((kind for kind in (FLOATS, INTEGERS) if dtype in kind), dtype)


def _name(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
