"""Tensors that a fit leaves behind, by name, of shapes that only the data say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


class Fitted(nn.Module):
    """Buffers that a fit or a checkpoint puts in, of any name and shape; float32, as networks
    predict."""

    def put(self, tensors: Mapping[str, Tensor], device: Any) -> None:
        """Keep these beside the ones that are there; floating-point ones in single precision."""
        for name, tensor in tensors.items():
            kept = tensor.detach().to(device)
            self.register_buffer(name, kept.float() if kept.is_floating_point() else kept)

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def __contains__(self, name: str) -> bool:
        return name in self._buffers

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, named without it."""
        return {
            name.removeprefix(prefix): self[name]
            for name in self.names()
            if name.startswith(prefix)
        }

    def names(self) -> Iterable[str]:
        return list(self._buffers)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        device = next(
            (tensor.device for tensor in self._buffers.values() if tensor is not None), None
        )
        for name in self.names():
            if prefix + name not in state_dict:
                del self._buffers[name]
        for key, tensor in state_dict.items():
            if key.startswith(prefix):
                self.register_buffer(key.removeprefix(prefix), tensor.to(device).clone())
