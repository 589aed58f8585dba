"""The processes of one run under torchrun: averages, decisions and messages between them.

The loop averages gradients itself: methods call submodules of their networks, which
``DistributedDataParallel`` would not see. Whatever decides anything (a gate, an epoch's means, a
score, a signal) is made the same on all ranks first, so that no rank is left waiting for another.
With one process every method here returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from tl_runner.errors import ConfigError, LostError, UserError

if TYPE_CHECKING:
    from tl_runner.methods.phases import Phase

T = TypeVar("T")
LEFT = "rank 0 has left"
GOODBYE = timedelta(seconds=5)
TIMEOUT = timedelta(hours=1)  # rank 0 evaluates while the others wait for what it found


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """True for rank 0, which evaluates and writes."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """The part of a random stream's name that is this rank's own; empty for rank 0, so one
        process draws what it always drew."""
        return (self.rank,) if self.rank else ()

    @property
    def every(self) -> int:
        """Steps between two calls of :meth:`any`, each of which waits for the slowest rank."""
        return 1 if self.world == 1 else 10

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place: one all-reduce of one flat buffer
        for each dtype."""
        if self.world == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            same = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.flatten() for t in same])
            with _connected():
                dist.all_reduce(flat)
            flat /= self.world
            for tensor, mean in zip(same, flat.split([t.numel() for t in same]), strict=True):
                tensor.copy_(mean.view(tensor.shape))

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each number's mean over ranks; NaN on one rank is NaN on all."""
        if self.world == 1:
            return dict(values)
        numbers = torch.tensor(list(values.values()), dtype=torch.float64)
        self.average([numbers])
        return dict(zip(values, numbers.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """True where the flag is up on any rank."""
        if self.world == 1:
            return flag
        raised = torch.tensor(int(flag))
        with _connected():
            dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)

    def share(self, make: Callable[[], T]) -> T:
        """Rank 0's result of ``make()`` on all ranks; the others do not call it."""
        if self.world == 1:
            return make()
        box: list[Any] = [make() if self.main else None]
        with _connected():
            dist.broadcast_object_list(box)
        return box[0]

    def gather(self, own: T) -> list[T]:
        """Every rank's value, in order of rank, on all ranks."""
        if self.world == 1:
            return [own]
        every: list[Any] = [None] * self.world
        with _connected():
            dist.all_gather_object(every, own)
        return every

    def limits(self, phases: Sequence[Phase]) -> str | None:
        """A warning where each rank's part of a batch is normalised by itself.

        Raises:
            ConfigError: a loss cannot be had from the parts of a batch.
        """
        if self.world == 1:
            return None
        updates = [update for phase in phases for update in phase.updates]
        if coupled := ", ".join(dict.fromkeys(u.name for u in updates if u.couples)):
            raise ConfigError(
                [
                    f"the loss of {coupled} couples the samples of a batch, of which each of the "
                    f"{self.world} processes has a part only. "
                    "Run this method in one process, without torchrun."
                ]
            )
        if any(
            isinstance(m, nn.modules.batchnorm._BatchNorm)
            for u in updates
            for n in u.networks
            for m in n.modules()
        ):
            return (
                "batch norm normalises by the batch_size images of each process, not by those "
                "of all processes."
            )
        return None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context in which a user's error on one rank is raised on all of them."""
        error = None
        try:
            yield
        except UserError as raised:
            error = raised
        messages = self.gather(str(error) if error else None)
        if error:
            raise error
        for rank, message in enumerate(messages):
            if message is not None:
                raise UserError(f"process {rank}: {message}")

    def same(self, what: str, make: Callable[[], Any]) -> None:
        """Compare the results of ``make()`` on all ranks.

        Raises:
            UserError: it does not.
        """
        if self.world > 1:
            found = self.gather(make())
            other = [rank for rank, value in enumerate(found) if value != found[0]]
            if other:
                raise UserError(
                    f"The processes do not start from the same {what}: process {other[0]} differs "
                    "from process 0.\n"
                    "  Give every machine the same code, the same versions of torch and the same "
                    "data."
                )


ALONE = Ranks()


def here() -> Ranks:
    """The rank of this process among those that :func:`joined`; alone without torchrun."""
    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes that torchrun started: NCCL for what lies on GPUs, gloo for the rest
    and for messages.

    Unless it fails by itself, a process leaves after rank 0: torchrun stops all of them once one
    has ended with an error, and rank 0 may still be writing a checkpoint or saying why.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, world = next(rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    try:
        yield
        if rank:
            with suppress(RuntimeError):  # the store has gone with rank 0
                store.wait([LEFT])
    finally:
        with suppress(RuntimeError):
            store.set(LEFT if rank == 0 else f"rank {rank} has left", "")
            # the store may live here, and torch complains where it goes while others still listen
            if rank == 0:
                store.wait([f"rank {other} has left" for other in range(1, world)], GOODBYE)
        dist.destroy_process_group()


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo and NCCL alike
        raise LostError(
            "Another process of this run ended first; it or torchrun says why."
        ) from error
