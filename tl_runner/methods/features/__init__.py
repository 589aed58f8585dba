"""Methods on fixed features. The bases are for methods of one's own: :class:`Aligned`,
:class:`Weighted`, :class:`OnFeatures`."""

from tl_runner.methods.features._base import Domains, OnFeatures
from tl_runner.methods.features._own import Aligned, Weighted

__all__ = ["Aligned", "Domains", "OnFeatures", "Weighted"]
