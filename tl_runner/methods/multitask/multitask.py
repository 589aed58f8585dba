"""Several tasks on one network: a shared backbone, a head for each, and a way to weigh what they
ask of it.

Hard parameter sharing: Caruana, "Multitask Learning", Machine Learning 1997. The weightings are
those of ``losses/multitask.py``. How two tasks relate is measured as they are trained: by the
cosine between the gradients of their losses with respect to the shared features, which Sener &
Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 3.3, stand in
for those of all shared weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_runner.backbones import Backbone
from tl_runner.errors import ConfigError, nearest, one_of
from tl_runner.losses.multitask import dynamic_weight_average, gradnorm, pcgrad, uncertainty
from tl_runner.methods.base import Method, Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses, Metrics, Samples, SplitPasses
from tl_runner.methods.phases import Group, Hooks, Outputs, Phase, Update

MAIN = "class"  # the task of the labels that every split has
WEIGHTINGS = ("equal", "uncertainty", "dwa", "gradnorm", "pcgrad")


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
    """Phases: the baselines, ``single_<task>`` for each task and ``equal`` for all with equal
    weights; ``together``.

    All start from the same weights. ``equal`` is left out where it is the weighting, both kinds
    where ``baselines`` is false.

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
        known = {MAIN: setting.num_classes, **setting.also}
        chosen = [*known] if tasks is None else [name for name in known if name in tasks]
        if unknown := [name for name in tasks or () if name not in known]:
            hints = "".join(nearest(name, known) for name in unknown)
            raise ConfigError(
                [
                    f"method.tasks: this data has no task {', '.join(unknown)}. It has "
                    f"{', '.join(known)}.{hints}"
                ]
            )
        if MAIN not in chosen:
            raise ConfigError(
                [
                    f"method.tasks should name {MAIN} too: the run's score is of it. "
                    "method.baselines trains each task alone."
                ]
            )
        self.sizes = {name: known[name] for name in chosen}
        self.options, self.weighting, self.baselines = together, weighting, baselines
        self.temperature, self.asymmetry, self.weight_rate = temperature, asymmetry, weight_rate
        self.shared = self.network([*self.sizes])
        self.single = [(task, self.network([task])) for task in self.sizes] if baselines else []
        self.equal = [self.network([*self.sizes])] if baselines and weighting != "equal" else []
        self.baseline_networks = nn.ModuleList([network for _, network in self.single] + self.equal)
        n = len(self.sizes)
        self.log_variances, self.weights = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.ones(n))
        for name, shape in (("history", (2, n)), ("running", (n,)), ("steps", ()), ("first", (n,))):
            self.register_buffer(name, torch.zeros(shape))

    def network(self, tasks: Sequence[str]) -> TaskNetwork:
        """An encoder and a head for each task, whose first weights are the same wherever they
        stand."""
        encoder = self.fresh("backbone", self.setting.make_backbone)
        heads = {
            t: self.fresh(f"head {t}", partial(nn.Linear, encoder.out_features, self.sizes[t] or 1))
            for t in tasks
        }
        return TaskNetwork(encoder, heads)

    def phases(self) -> list[Phase]:
        singles = [
            self.phase(f"single_{task}", net, self.update(net, partial(self.alone, net, task)))
            for task, net in self.single
        ]
        equal = [
            self.phase("equal", net, self.update(net, partial(self.equally, net)))
            for net in self.equal
        ]
        return [*singles, *equal, self.phase("together", self.shared, self.together())]

    def phase(self, name: str, network: TaskNetwork, update: Update) -> Phase:
        """A phase on the labelled images that trains ``network``."""

        def said(task: str, x: Tensor) -> Tensor:
            return network.heads[task](network.encoder(x))

        tasks = [*network.heads]
        by_epoch = name == "together" and self.weighting == "dwa"
        return Phase.of(
            self.options
            if MAIN in tasks
            # no accuracy of the main task says when to stop
            else {**self.options, "patience": None},
            name=name,
            reads={"target": "target_labelled"},
            updates=[update],
            outputs=Outputs(
                partial(said, MAIN if MAIN in tasks else tasks[0]),
                also={task: partial(said, task) for task in tasks if task != MAIN},
                embed={"target": network.encoder} if name == "together" else {},
                domains=["target"] if MAIN in tasks else [],
            ),
            hooks=Hooks(each_epoch=self.average if by_epoch else None),
            not_printed=("cosine_",),
        )

    def update(self, network: nn.Module, step: Callable, **more: Any) -> Update:
        return Update("network", [network], self.options["optimizer"], step, **more)

    def together(self) -> Update:
        """The update of the phase that trains all tasks, as the weighting has it."""
        network = Group([*self.shared.parameters()])
        # they go by the losses or gradients of whole batches
        couples = self.weighting in ("dwa", "gradnorm", "pcgrad")
        if self.weighting == "uncertainty":
            groups = [network, Group([self.log_variances], self.weight_rate, weight_decay=0.0)]
            return self.update(self.shared, self.step, groups=groups)
        if self.weighting == "gradnorm":
            groups = [network, Group([self.weights], self.weight_rate, weight_decay=0.0)]
            return self.update(
                self.shared,
                self.step,
                groups=groups,
                gradients=self.by_gradnorm,
                after=self.renormalise,
                couples=couples,
            )
        gradients = self.by_pcgrad if self.weighting == "pcgrad" else None
        return self.update(self.shared, self.step, gradients=gradients, couples=couples)

    # ---- losses

    def loss(self, task: str, said: Tensor, samples: Samples) -> Tensor:
        """Cross-entropy, or the mean squared error of a number, of one task."""
        y = samples.y if task == MAIN else samples.also[task]
        assert y is not None
        if not self.sizes[task]:
            return F.mse_loss(said[:, 0].float(), y)
        smoothing = self.options["label_smoothing"]
        return (
            cross_entropy(said, [samples], smoothing)
            if task == MAIN
            else F.cross_entropy(said, y, label_smoothing=smoothing)
        )

    def alone(self, network: TaskNetwork, task: str, batch: Batch, progress: float) -> Losses:
        """One task by itself."""
        return {
            task: self.loss(
                task, network.heads[task](network.encoder(batch.target.x)), batch.target
            )
        }

    def equally(self, network: TaskNetwork, batch: Batch, progress: float) -> Losses:
        """All tasks, each as it is."""
        features = network.encoder(batch.target.x)
        return {
            task: self.loss(task, head(features), batch.target)
            for task, head in network.heads.items()
        }

    def step(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """batch.target.x, .y and .also: the losses as they are weighed, and the cosines between the
        tasks' gradients."""
        features = self.shared.encoder(batch.target.x)
        losses = {
            task: self.loss(task, head(features), batch.target)
            for task, head in self.shared.heads.items()
        }
        metrics = self.cosines(losses, features)
        if self.weighting == "uncertainty":
            weighed = [
                uncertainty(loss, s, not self.sizes[t])
                for (t, loss), s in zip(losses.items(), self.log_variances, strict=True)
            ]
            metrics |= {f"loss_{task}": loss.detach() for task, loss in losses.items()}
            return dict(zip(losses, weighed, strict=True)), metrics
        if self.weighting == "dwa":
            self.running += torch.stack([loss.detach().float() for loss in losses.values()])
            self.steps += 1
            metrics |= {f"loss_{task}": loss.detach() for task, loss in losses.items()}
            return {
                task: w * loss
                for w, (task, loss) in zip(
                    batch.precomputed["weights"], losses.items(), strict=True
                )
            }, metrics
        return losses, metrics

    def cosines(self, losses: Losses, features: Tensor) -> dict[str, Tensor]:
        """Between the gradients of each two tasks with respect to the features of the batch, laid
        end to end."""
        found = {
            task: torch.autograd.grad(loss, features, retain_graph=True)[0].flatten()
            for task, loss in losses.items()
        }
        return {
            f"cosine_{a}_{b}": F.cosine_similarity(found[a].float(), found[b].float(), dim=0)
            for a, b in combinations(found, 2)
        }

    # ---- weightings

    def average(self, passes: SplitPasses) -> dict[str, Tensor]:
        """DWA's weights, from the mean losses of the last two epochs; 1 in the first two."""
        if passes.epoch:
            self.history.copy_(torch.stack([self.running / self.steps, self.history[0]]))
        self.running.zero_()
        self.steps.zero_()
        last, before = self.history
        return {
            "weights": dynamic_weight_average(last, before, self.temperature)
            if passes.epoch > 1
            else torch.ones_like(last)
        }

    def by_gradnorm(self, losses: Losses) -> None:
        """Gradients of the network from the weighed losses, of the weights from GradNorm's own."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self.first.copy_(torch.where(self.first == 0, values, self.first))
        last = [*[*self.shared.encoder.blocks().values()][-1][0].parameters()]
        found = [torch.autograd.grad(loss, last, retain_graph=True) for loss in losses.values()]
        norms = torch.stack(
            [torch.cat([g.flatten().float() for g in gradients]).norm() for gradients in found]
        )
        weights = self.weights.detach()
        torch.stack(
            [w * loss for w, loss in zip(weights, losses.values(), strict=True)]
        ).sum().backward()
        gradnorm(self.weights, norms, values, self.first, self.asymmetry).backward()

    @torch.no_grad()
    def renormalise(self) -> None:
        """GradNorm's weights add up to the number of tasks."""
        self.weights.clamp_(min=1e-3)
        self.weights.mul_(len(self.weights) / self.weights.sum())

    def by_pcgrad(self, losses: Losses) -> None:
        """Gradients of the shared weights as PCGrad combines them, of each head as its own loss has
        them."""
        shared = [*self.shared.encoder.parameters()]
        found = []
        for task, loss in losses.items():
            head = [*self.shared.heads[task].parameters()]
            gradients = torch.autograd.grad(loss, [*shared, *head], retain_graph=True)
            found.append(torch.cat([g.flatten() for g in gradients[: len(shared)]]))
            for p, g in zip(head, gradients[len(shared) :], strict=True):
                p.grad = g
        n, device = len(found), found[0].device
        orders = torch.rand(n, n, device=device).argsort(1)
        combined = pcgrad(torch.stack(found), orders)
        for p, g in zip(shared, combined.split([p.numel() for p in shared]), strict=True):
            p.grad = g.view_as(p)

    # ---- the record

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``relationships``: mean cosines between the tasks' gradients over training; ``weights``,
        as they ended."""
        tasks = [*self.sizes]
        own = [row for row in rows if row.get("phase") == "together" and "step" in row]

        def cosine(a: str, b: str) -> float | None:
            values = [
                row[k] for row in own for k in (f"cosine_{a}_{b}", f"cosine_{b}_{a}") if k in row
            ]
            return 1.0 if a == b else round(sum(values) / len(values), 4) if values else None

        weights = {"uncertainty": torch.exp(-self.log_variances), "gradnorm": self.weights}.get(
            self.weighting
        )
        if self.weighting == "dwa" and (self.history > 0).all():
            weights = dynamic_weight_average(self.history[0], self.history[1], self.temperature)
        said = (
            {"weights": dict(zip(tasks, [round(w, 4) for w in weights.tolist()], strict=True))}
            if weights is not None
            else {}
        )
        return {
            "tasks": tasks,
            "relationships": [[cosine(a, b) for b in tasks] for a in tasks],
            **said,
        }
