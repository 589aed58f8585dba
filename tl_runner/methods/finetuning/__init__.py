"""Transfer of a network: trained on a source, or given, it goes on with labels of the target.

:class:`ModelTransfer` is the base for methods of one's own.
"""

from tl_runner.methods.finetuning._base import ModelTransfer

__all__ = ["ModelTransfer"]
