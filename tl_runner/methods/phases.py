"""Phases, updates and gates, which are all that the training loop knows of a method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from tl_runner.methods.batch import Batch, Losses, Metrics, SplitPasses, TaskSet


@dataclass
class Gate:
    """Condition for an update to run: a metric of its phase, as a mean over windows of steps.

    The update runs in a window if the mean over the window before was above the bound, and in the
    first one. The mean is read once, at a window's end, so that the device is rarely waited for.
    """

    metric: str
    above: float
    window: int


@dataclass
class Group:
    """Parameters of an update with settings of their own.

    Attributes:
        parameters: each stands in one group.
        rate: multiplies the update's learning rate, schedule and all.
        weight_decay: None is the update's.
    """

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass
class Update:
    """One optimiser's share of a step.

    Attributes:
        name: also its key in the checkpoint.
        networks: what it trains; every other network has its gradients off while it runs.
        optimizer: name, lr, betas, ..., as in ``conf/train/_optimizer.yaml``; None is forward
            passes alone, for batch norm's statistics.
        step: (batch, progress of the phase in [0, 1)) to losses, or to (losses, metrics).
        repeats: times per step; without an optimiser once.
        gate: when to run; None is always.
        couples: the loss is no mean over the batch's samples, so several ranks would change what it
            computes.
        gradients: puts the gradients of the losses into the parameters, where they are not those of
            the losses' sum. It may relate samples of a batch to each other, so it goes with
            ``couples``.
        after: run after each step of the optimiser.
        groups: the parameters that it trains, where they are not all of the networks', or not all
            alike.
    """

    name: str
    networks: Sequence[nn.Module]
    optimizer: Mapping[str, Any] | None
    step: Callable[[Batch, float], Losses | tuple[Losses, Metrics]]
    repeats: int = 1
    gate: Gate | None = None
    couples: bool = False
    groups: Sequence[Group] | None = None
    gradients: Callable[[Losses], None] | None = None
    after: Callable[[], None] | None = None


@dataclass
class Length:
    """Length of a phase, and size of its batches.

    Attributes:
        epochs, steps_per_epoch, batch_size: ``steps_per_epoch`` None is one pass over the first
            split.
        accumulate: equal parts that a batch goes through the networks in, their gradients added up.
        patience: epochs without a better validation accuracy after which the phase ends, with the
            best epoch's weights; None: never.
        ignores_limit: ``train.limit.epochs`` leaves the phase its epochs, since it trains nothing.
    """

    epochs: int
    batch_size: int
    steps_per_epoch: int | None = None
    accumulate: int = 1
    patience: int | None = None
    ignores_limit: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> Length:
        """Lengths from a section of the config; ``more`` goes before it."""
        return cls(**named(options, "epochs batch_size steps_per_epoch accumulate patience") | more)


@dataclass
class Sampling:
    """Sampling of a phase's batches from its splits.

    Attributes:
        augment: batches are random views of the images, as ``data.augment`` says.
        mixup, cutmix: of labelled images, the concentration alpha of the shares that two images
            have in one; 0: none.
        balance: of labelled splits, ``sampling`` draws every class as often, ``weights`` lets it
            count as much; None: as they are.
        leave_out: classes whose images are not read, of splits that are labelled.
    """

    augment: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    balance: str | None = None
    leave_out: Sequence[int] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> Sampling:
        """Sampling from a section of the config; ``more`` goes before it."""
        return cls(**named(options, "augment mixup cutmix balance") | more)


@dataclass
class Outputs:
    """Classifiers and features that a phase makes, and where it is scored.

    Attributes:
        predict: the classifier that the phase is making, images (B, C, H, W) to logits (B, K).
        source_predict: the same for images of the source, where batch norm keeps a branch for each
            domain; None: ``predict``.
        also: the same as ``predict`` for further tasks on the target, by name, to logits (B, K) or
            to a number each (B, 1).
        embed: images (B, C, H, W) of the source and of the target to features (B, d), for pictures
            of the two domains and the selection rules that compare them. ``target``'s are what
            ``predict`` classifies.
        on_fixed: ``predict`` of features (B, d) that ``embed``'s ``target`` made, where the phase
            trains nothing that they depend on: they are then computed once for each split.
        domains: whose splits the classifier is scored on; where it knows the source's classes
            alone, only the source's.
        curve: of a phase that learns few-shot tasks, by which it is scored instead: the support and
            the query sets of T tasks to outputs after 0, 1, ... inner steps, (T, steps + 1, Q, K).
    """

    predict: Callable[[Tensor], Tensor]
    source_predict: Callable[[Tensor], Tensor] | None = None
    also: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    embed: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    on_fixed: Callable[[Tensor], Tensor] | None = None
    domains: Sequence[str] = ("source", "target")
    curve: Callable[[TaskSet, TaskSet], Tensor] | None = None


@dataclass
class Hooks:
    """Functions that a phase runs beside its steps.

    Attributes:
        begin: run once when the phase starts, not when it is resumed.
        precompute: tensors that every batch has as ``precomputed``, from :class:`SplitPasses`:
            computed once, as the phase starts and again where it is resumed. It must not draw at
            random.
        each_epoch: the same, computed anew as every epoch begins.
        fit: run once after the phase's last epoch, with :class:`SplitPasses`: it leaves tensors in
            a ``Fitted`` and returns what the user should know. Such a phase is scored after it, and
            may have no epochs and no updates.
    """

    begin: Callable[[], object] | None = None
    precompute: Callable[[SplitPasses], dict[str, Tensor]] | None = None
    each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None = None
    fit: Callable[[SplitPasses], Sequence[str]] | None = None


@dataclass
class Batching:
    """Ways to compute the same for few-shot tasks, of which the fastest here is taken.

    Attributes:
        choices: by name, and into how many parts each cuts a batch. They are measured as the phase
            starts, and what was taken is recorded; one alone is taken as it is.
        follow: called with the name that is taken.
    """

    choices: Mapping[str, int] = field(default_factory=dict)
    follow: Callable[[str], None] = field(default=lambda choice: None)


@dataclass
class Phase:
    """One stage of a method.

    Attributes:
        name: ``pretrain``, ``adapt``, ...
        reads: the batch's domains and the split that each comes from.
        updates: run in this order in every step.
        length, sampling, outputs, hooks, batching: see these classes.
        ema: the decay of an exponential moving average of the weights, which predicts and which the
            phase leaves behind; None: none.
        seed: from which its random numbers come; None: from the run's.
        eval_layers: layers that stay in eval mode although an update trains a network that holds
            them.
        shared: the options that the updates' steps depend on, as JSON, if the phase may be shared
            between runs: then its outcome follows from these, its networks' first weights, what it
            reads and the seed alone. None: computed by every run.
        section: of the method's config that its lengths come from, where that is not its name.
        not_printed: how the names of losses and metrics begin that are recorded every epoch, but
            not printed.
        diagnose: epoch means to a warning for the user, or None.
    """

    name: str
    reads: Mapping[str, str]
    updates: Sequence[Update]
    length: Length
    outputs: Outputs
    sampling: Sampling = field(default_factory=Sampling)
    hooks: Hooks = field(default_factory=Hooks)
    batching: Batching = field(default_factory=Batching)
    ema: float | None = None
    seed: int | None = None
    eval_layers: Sequence[nn.Module] = ()
    shared: Mapping[str, Any] | None = None
    section: str = ""
    not_printed: tuple[str, ...] = ()
    diagnose: Callable[[Mapping[str, float]], str | None] = field(default=lambda means: None)

    @classmethod
    def of(cls, options: Mapping[str, Any], **fields: Any) -> Phase:
        """A phase whose length, sampling and ``ema`` are from a section of the config."""
        usual: dict[str, Any] = {"length": Length.of(options), "sampling": Sampling.of(options)}
        return cls(**usual | named(options, "ema") | fields)


def named(options: Mapping[str, Any], keys: str) -> dict[str, Any]:
    """The options that are there, of names separated by spaces."""
    return {key: options[key] for key in keys.split() if key in options}
