"""Several tasks on one network: a shared backbone, a head for each, and their losses weighed.

Hard parameter sharing: Caruana, "Multitask Learning", Machine Learning 1997. The weightings stand
in ``_weightings.py``. How two tasks relate is measured as they are trained: by the
cosine between the gradients of their losses with respect to the shared features, which Sener &
Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 3.3, stand in
for those of all shared weights.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from tl_runner.errors import ConfigError, nearest, one_of
from tl_runner.methods.base import Method, cross_entropy
from tl_runner.methods.multitask._weightings import WEIGHTINGS
from tl_runner.methods.phases import Hooks, Outputs, Phase, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.backbones import Backbone
    from tl_runner.methods.batch import Batch, Losses, Metrics, Samples
    from tl_runner.methods.setting import Setting

MAIN = "class"  # the task of the labels that every split has


class TaskNetwork(nn.Module):
    """An encoder, and a head for each task."""

    def __init__(self, encoder: Backbone, heads: Mapping[str, nn.Module]):
        super().__init__()
        self.encoder, self.tasks = encoder, [*heads]
        # not by name: a task may be called what Python reserves
        self.layers = nn.ModuleList(heads.values())

    @property
    def heads(self) -> dict[str, nn.Module]:
        """By task."""
        return dict(zip(self.tasks, self.layers, strict=True))


class MultiTask(Method):
    """Multi-task learning beside its baselines: each task alone, and all with equal weights.

    Phases: ``single_<task>`` for each task, ``equal``, ``together``. All start from the same
    weights. ``equal`` is left out where it is the weighting, both kinds where ``baselines`` is
    false.

    Args:
        together: lengths and optimiser, of every phase.
        tasks: the names of those that are learned, ``class`` among them; null: all of the data's.
        weighting: ``equal`` (the sum of the losses), ``uncertainty``, ``dwa``, ``gradnorm``,
            ``pcgrad``.
        temperature: of ``dwa``.
        asymmetry: alpha of ``gradnorm``.
        weight_rate: learning rate of ``uncertainty``'s and ``gradnorm``'s weights over the
            network's.
        baselines: train the baselines as well.

    Raises:
        ConfigError: the data has no such task; there is no such weighting.
    """

    history: Tensor
    running: Tensor
    steps: Tensor
    first: Tensor

    def __init__(
        self,
        setting: Setting,
        *,
        together: Mapping[str, Any],
        tasks: Sequence[str] | None,
        weighting: str,
        temperature: float,
        asymmetry: float,
        weight_rate: float,
        baselines: bool,
    ):
        super().__init__(setting)
        one_of("method.weighting", weighting, WEIGHTINGS)
        if together["mixup"] or together["cutmix"]:
            raise ConfigError(
                [
                    "method.together.mixup, cutmix: images would be mixed and the labels of most "
                    "tasks not. Set them to 0."
                ]
            )
        self.sizes = chosen_tasks({MAIN: setting.num_classes, **setting.also}, tasks)
        self.options, self.baselines = together, baselines
        self.temperature, self.asymmetry, self.weight_rate = temperature, asymmetry, weight_rate
        self.shared = self.network([*self.sizes])
        self.single = [(task, self.network([task])) for task in self.sizes] if baselines else []
        self.equal = [self.network([*self.sizes])] if baselines and weighting != "equal" else []
        self.baseline_networks = nn.ModuleList([network for _, network in self.single] + self.equal)
        n = len(self.sizes)
        self.log_variances, self.weights = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.ones(n))
        for name, shape in (("history", (2, n)), ("running", (n,)), ("steps", ()), ("first", (n,))):
            self.register_buffer(name, torch.zeros(shape))
        self.weighting = WEIGHTINGS[weighting](self)

    def network(self, tasks: Sequence[str]) -> TaskNetwork:
        """A network for some tasks; a task's head and the encoder start the same in every one."""
        encoder = self.fresh("backbone", self.setting.make_backbone)
        heads = {
            t: self.fresh(f"head {t}", partial(nn.Linear, encoder.out_features, self.sizes[t] or 1))
            for t in tasks
        }
        return TaskNetwork(encoder, heads)

    # ---- phases

    def phases(self) -> list[Phase]:
        singles = [
            self.phase(
                f"single_{task}", net, self.update(net, partial(self.single_step, net, task))
            )
            for task, net in self.single
        ]
        equal = [
            self.phase("equal", net, self.update(net, partial(self.equal_step, net)))
            for net in self.equal
        ]
        return [*singles, *equal, self.together()]

    def together(self) -> Phase:
        """The phase that trains all tasks as the weighting has it."""
        weighting, encoder = self.weighting, self.shared.encoder
        update = self.update(
            self.shared, self.step, couples=weighting.couples, **weighting.of_update()
        )
        phase = self.phase("together", self.shared, update, Hooks(**weighting.of_hooks()))
        phase.outputs.embed = {"target": encoder}
        return phase

    def phase(
        self, name: str, network: TaskNetwork, update: Update, hooks: Hooks | None = None
    ) -> Phase:
        """A phase on the labelled images that trains ``network``."""

        def outputs(task: str, x: Tensor) -> Tensor:
            return network.heads[task](network.encoder(x))

        tasks = [*network.heads]
        main = MAIN if MAIN in tasks else tasks[0]
        # without the main task no accuracy of it says when to stop
        options = self.options if main == MAIN else {**self.options, "patience": None}
        return Phase.of(
            options,
            name=name,
            reads={"target": "target_labelled"},
            updates=[update],
            outputs=Outputs(
                partial(outputs, main),
                also={task: partial(outputs, task) for task in tasks if task != MAIN},
                domains=["target"] if main == MAIN else [],
            ),
            hooks=hooks or Hooks(),
            not_printed=("cosine_",),
        )

    def update(self, network: nn.Module, step: Callable, **more: Any) -> Update:
        return Update("network", [network], self.options["optimizer"], step, **more)

    # ---- losses

    def loss(self, task: str, outputs: Tensor, samples: Samples) -> Tensor:
        """One task's cross-entropy, or the mean squared error of its number.

        Args:
            outputs: logits (B, K), or numbers (B, 1).
        """
        y = samples.y if task == MAIN else samples.also[task]
        assert y is not None
        if not self.sizes[task]:
            return F.mse_loss(outputs[:, 0].float(), y)
        smoothing = self.options["label_smoothing"]
        if task == MAIN:
            return cross_entropy(outputs, [samples], smoothing)
        return F.cross_entropy(outputs, y, label_smoothing=smoothing)

    def losses(self, network: TaskNetwork, features: Tensor, samples: Samples) -> dict[str, Tensor]:
        """The loss of each task of a network, by features (B, d) of the samples."""
        return {
            task: self.loss(task, head(features), samples) for task, head in network.heads.items()
        }

    def single_step(self, network: TaskNetwork, task: str, batch: Batch, progress: float) -> Losses:
        """The loss of one task, on a network of its own."""
        outputs = network.heads[task](network.encoder(batch.target.x))
        return {task: self.loss(task, outputs, batch.target)}

    def equal_step(self, network: TaskNetwork, batch: Batch, progress: float) -> Losses:
        """The losses of all tasks, each as it is."""
        return self.losses(network, network.encoder(batch.target.x), batch.target)

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """The losses as they are weighed, and the cosines between the tasks' gradients.

        Args:
            batch: ``target.x`` (B, C, H, W), ``.y`` and ``.also`` by task, each (B,).
        """
        features = self.shared.encoder(batch.target.x)
        losses = self.losses(self.shared, features, batch.target)
        metrics = self.cosines(losses, features)
        if self.weighting.records:
            metrics |= {f"loss_{task}": loss.detach() for task, loss in losses.items()}
        return self.weighting.weigh(losses, batch), metrics

    def cosines(self, losses: Losses, features: Tensor) -> dict[str, Tensor]:
        """Cosines between the tasks' gradients with respect to the batch's features, laid end to
        end, for each two tasks."""
        found = {
            task: torch.autograd.grad(loss, features, retain_graph=True)[0].flatten()
            for task, loss in losses.items()
        }
        return {
            f"cosine_{a}_{b}": F.cosine_similarity(found[a].float(), found[b].float(), dim=0)
            for a, b in combinations(found, 2)
        }

    # ---- the record

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The ``tasks``, their ``relationships``, and the ``weights`` as they ended, of a weighting
        that has some.

        ``relationships`` are mean cosines between the tasks' gradients over training.
        """
        tasks = [*self.sizes]
        own = [row for row in rows if row.get("phase") == "together" and "step" in row]

        def cosine(a: str, b: str) -> float | None:
            values = [
                row[k] for row in own for k in (f"cosine_{a}_{b}", f"cosine_{b}_{a}") if k in row
            ]
            return 1.0 if a == b else round(sum(values) / len(values), 4) if values else None

        found: dict[str, Any] = {
            "tasks": tasks,
            "relationships": [[cosine(a, b) for b in tasks] for a in tasks],
        }
        weights = self.weighting.weights()
        if weights is not None:
            rounded = [round(w, 4) for w in weights.tolist()]
            found["weights"] = dict(zip(tasks, rounded, strict=True))
        return found


def chosen_tasks(known: Mapping[str, int], wanted: Sequence[str] | None) -> dict[str, int]:
    """The tasks to learn and how many classes each has; all that are known where ``wanted`` is
    None.

    Raises:
        ConfigError: one is not known, or the main one is not among them.
    """
    if unknown := [name for name in wanted or () if name not in known]:
        hints = "".join(nearest(name, known) for name in unknown)
        raise ConfigError(
            [
                f"method.tasks: this data has no task {', '.join(unknown)}. It has "
                f"{', '.join(known)}.{hints}"
            ]
        )
    chosen = {name: size for name, size in known.items() if wanted is None or name in wanted}
    if MAIN not in chosen:
        raise ConfigError(
            [
                f"method.tasks should name {MAIN} too: the run's score is of it. "
                "method.baselines trains each task alone."
            ]
        )
    return chosen
