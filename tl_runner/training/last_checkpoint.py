"""``last.pt``: everything that the next step of a run needs, written and taken up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import CheckpointError
from tl_runner.training import checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.record.run_folder import RunFolder
    from tl_runner.training.device import Device
    from tl_runner.training.distributed import Ranks
    from tl_runner.training.loop_factory import LoopFactory
    from tl_runner.training.phase_loop import PhaseLoop
    from tl_runner.training.position import Position


class LastCheckpoint:
    """The checkpoint that a run goes on from.

    Args:
        config: the resolved config, kept in the checkpoint.
        at: where the run stands; :meth:`restore` sets it.
        phases: of the method; ``loops`` makes the loop of one that was cut short.
        ranks: of which rank 0 alone writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, Any],
        method: Method,
        device: Device,
        at: Position,
        phases: Sequence[Phase],
        loops: LoopFactory,
        ranks: Ranks,
    ):
        self.folder, self.config, self.method, self.device = folder, config, method, device
        self.at, self.phases, self.loops, self.ranks = at, phases, loops, ranks

    def save(self, loop: PhaseLoop | None) -> None:
        """Write it, inside a phase with its loop's state: the next step can be taken from it
        alone."""
        state: dict[str, Any] = {
            "config": dict(self.config),
            "position": vars(self.at),
            "method": checkpoints.weights_of(self.method, self.method.elsewhere),
            "loop": loop.state_dict() if loop else None,
            "metrics_bytes": self.folder.metrics_bytes(),
        }
        if self.ranks.world > 1:
            state["ranks"] = self.ranks.gather(loop.own_state() if loop else None)
        if self.ranks.main:
            checkpoints.save(self.folder.last, state)

    def restore(self) -> PhaseLoop | None:
        """Take it up; ``metrics.jsonl`` is cut back to it. A run killed before its first starts
        over.

        Returns:
            The loop of the phase that was cut short, if one was.

        Raises:
            CheckpointError: it does not fit this run.
        """
        for half_written in self.folder.last.parent.glob("*.tmp"):
            half_written.unlink(missing_ok=True)
        if not self.folder.last.exists():
            self.folder.cut_metrics(0)
            return None
        state = checkpoints.load(self.folder.last, self.config)
        with checkpoints.fitting(self.folder.last):
            loop = self._put_back(state)
            if self.folder.metrics_bytes() < state["metrics_bytes"]:
                raise CheckpointError(
                    f"{self.folder.metrics_file} is shorter than at the checkpoint. Start the run "
                    "afresh."
                )
            if self.at.best_epoch is not None:
                checkpoints.load(self.folder.best, self.config)
            self.folder.cut_metrics(state["metrics_bytes"])
        return loop

    def _put_back(self, state: Mapping[str, Any]) -> PhaseLoop | None:
        checkpoints.put_back(self.method, state["method"], self.method.elsewhere)
        # what a fit left comes back in shapes, and on a device, that only the file knows
        self.device.place(self.method)
        self.at.restore(state["position"])
        if self.at.plan:
            # tasks are scored so, too, if only that is left
            self.phases[-1].batching.follow(self.at.plan)
        if state["loop"] is None:
            return None
        loop = self.loops.make(self.phases[self.at.phase])
        loop.load_state_dict(state["loop"])
        if self.ranks.world > 1:
            loop.load_own_state(state["ranks"][self.ranks.rank])
        return loop
