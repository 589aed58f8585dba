"""What methods that distil have in common: a teacher, a student taught by labels alone, a student
taught by both. No method by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._batch_norm import norms_of
from tl_runner.backbones._inner_layers import Seen, Watched, missing, outputs, with_shapes
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Classifier, Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses, Samples, SplitPasses
from tl_runner.methods.distillation._teacher import Network, Teacher
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase, Sampling, Update
from tl_runner.metrics.prior import shifts_to_prior

Answers = Callable[[Seen], dict[str, Tensor]]
TOLD = "teacher/"  # before the names of what is kept of it
# bytes of a teacher's answers that are kept at the most; more are asked for anew in every step
KEPT = 2**31


class Distillation(Classifier):
    """Phases: ``teach`` trains the teacher; then the student by labels alone, as source only or
    target only does; ``distil``, by both.

    Labels are those of the source, if there is one, and of the target's labelled images. The
    teacher answers about the target's training images, labelled or not; about the labelled ones
    alone where ``needs_labels``. It stays in eval mode and as it is.

    Args:
        teacher: a run's folder, or a file of weights; null: trained here.
        teacher_seed: of its training; null: the run's.
        teach, distil: lengths and optimisers; those of ``distil`` are also the student's that
            labels alone teach.
        alone: whether that one is trained.
        label_weight: of the labels' cross-entropy beside what the teacher says.
        leave_out: classes whose images the student never sees.
        match_prior: move the head's biases of these classes at the end until each is answered as
            often, on the target's training images, as its share of the labels.
        teachers: how many are trained.
        student_layers, teacher_layers: paths of layers in the backbones, for methods that compare
            some.

    Raises:
        ConfigError: settings that do not go together; layers that are not there or cannot be
            compared; no labels.
    """

    titles: Mapping[str, str] = {"teach": "teacher", "alone": "student alone"}
    needs_labels = False
    couples = False
    several = False  # teachers
    baseline = "alone"
    # what else would do
    without_labels = ", or method.teacher, method.alone=false and method.label_weight=0"

    def __init__(
        self,
        setting: Setting,
        *,
        teacher: Any,
        teacher_seed: int | None,
        teach: Mapping[str, Any],
        distil: Mapping[str, Any],
        alone: bool,
        label_weight: float,
        leave_out: Sequence[int],
        match_prior: bool,
        teachers: int = 1,
        student_layers: Sequence[str] | None = None,
        teacher_layers: Sequence[str] | None = None,
    ):
        super().__init__(setting)
        self.teach, self.distil, self.label_weight = teach, distil, label_weight
        self.teacher_seed = setting.seed if teacher_seed is None else teacher_seed
        self.leave_out, self.match_prior = [*leave_out], match_prior
        if problems := self._problems(teacher, alone):
            raise ConfigError(problems)
        self.trained = not setting.given and not setting.deployed
        self.scaffold = ("teachers", "alone")
        self.elsewhere = ("teachers",) if setting.given else ()
        made = (
            [self._teacher(i) for i in range(teachers)]
            if self.trained
            else [t for t in setting.given if isinstance(t, Teacher)]
        )
        self.teachers, self.every_teacher = nn.ModuleList(made), made
        self.saw_target_labels = any(t.record.get("uses_target_labels") for t in made)
        self.warnings = [said for t in made for said in t.warnings]
        self.alone = Network(*self.encoder_and_head()) if alone and not setting.deployed else None
        if not setting.deployed:
            self._pair_layers(student_layers, teacher_layers)

    def _problems(self, teacher: Any, alone: bool) -> list[str]:
        """What does not go together."""
        setting, last = self.setting, self.setting.num_classes - 1
        found = []
        if setting.bn not in ("concat", "separate"):
            found.append(
                f"backbone.bn={setting.bn}: one student learns from all images. Choose separate "
                "or concat."
            )
        labels = setting.labelled or "source_train" in setting.splits or setting.deployed
        if not labels and (alone or self.label_weight or not setting.given):
            found.append(f"there are no labels: set data.target_labels{self.without_labels}.")
        if bad := [c for c in self.leave_out if not 0 <= c <= last]:
            found.append(f"method.leave_out={bad}: classes are numbered 0 to {last}.")
        if len({*range(last + 1)} - {*self.leave_out}) < 2:
            found.append(
                f"method.leave_out={self.leave_out} leaves {last + 1 - len({*self.leave_out})} "
                "classes: two are needed."
            )
        if self.leave_out and not setting.every_label:
            found.append(
                "method.leave_out tells the images by their labels: it needs "
                "data.target_labels=all."
            )
        if not self.distil["augment"] and (self.distil["mixup"] or self.distil["cutmix"]):
            found.append(
                "method.distil.augment=false mixes no images: set method.distil.mixup and cutmix "
                "to 0."
            )
        if self.match_prior and not self.leave_out:
            found.append(
                "method.match_prior is about the classes of method.leave_out, which names none."
            )
        if isinstance(teacher, list) and len(teacher) > 1 and not self.several:
            found.append(
                f"method.teacher names {len(teacher)} teachers, and this method has one. "
                "method=multi_teacher has several."
            )
        return found

    def _teacher(self, number: int) -> Teacher:
        """A new one; the first is the same for every method."""
        assert self.setting.make_teacher
        which = f"_{number + 1}" if number else ""
        encoder = self.fresh(f"backbone{which}", self.setting.make_teacher, self.teacher_seed)
        head = self.fresh(
            f"head{which}",
            lambda: nn.Linear(encoder.out_features, self.setting.num_classes),
            self.teacher_seed,
        )
        return Teacher(Network(encoder, head), encoder)

    def _pair_layers(self, student: Sequence[str] | None, teacher: Sequence[str] | None) -> None:
        """The layers that are compared, checked on two images; ``layers`` are (student's,
        teacher's) paths."""
        self.layers: list[tuple[str, str]] = []
        own, taught = (
            outputs(encoder, self.setting.shape)
            for encoder in (self.encoder, self.every_teacher[0].encoder)
        )
        if problems := [
            *missing("student", student or [], own),
            *missing("teacher", teacher or [], taught),
        ]:
            raise ConfigError(problems)
        if student is not None and teacher is not None and len(student) != len(teacher):
            raise ConfigError(
                [
                    f"method.student_layers names {len(student)} and method.teacher_layers "
                    f"{len(teacher)}: they go in pairs."
                ]
            )
        self.layers = self.pairs(own, taught, student, teacher)
        if problems := [said for s, t in self.layers if (said := self.unlike(own[s], taught[t]))]:
            there = [
                f"The student has {with_shapes(own)}.",
                f"The teacher has {with_shapes(taught)}.",
            ]
            raise ConfigError([" ".join([*problems, *there])])
        self.student = Watched(self, self.encoder, [s for s, _ in self.layers])
        self.asked = [
            Watched(t.predict, t.encoder, [path for _, path in self.layers])
            for t in self.every_teacher
        ]
        self.shapes = {
            side: {path: tuple(out.shape[1:]) for path, out in found.items()}
            for side, found in (("student", own), ("teacher", taught))
        }

    # ---- what a method says

    @abstractmethod
    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        """What the teacher's :meth:`answers` about ``taught``, a batch of target images, are to the
        student, weights and all."""

    def answers(self, teacher: Seen) -> dict[str, Tensor]:
        """What of the teacher is learned from, (B, ...) each."""
        return {"logits": teacher.logits}

    def pairs(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        named: Sequence[str] | None,
        taught: Sequence[str] | None,
    ) -> list[tuple[str, str]]:
        """The layers that are compared, of the outputs that there are and of those that the user
        named; none by default."""
        return []

    def unlike(self, student: Tensor, teacher: Tensor) -> str | None:
        """Why two layers cannot be compared, by what they give, or None."""
        return None

    # ---- phases

    def phases(self) -> list[Phase]:
        return [*self.teaching(), *self.by_labels(), *self.distilling(), *self.matching()]

    def teaching(self) -> list[Phase]:
        """The teachers', or one that only scores those that were given."""
        if self.setting.deployed:
            return []
        found = []
        for number, teacher in enumerate(self.every_teacher):
            name = f"teach_{number + 1}" if number else "teach"
            if self.trained:
                assert isinstance(teacher.network, Network)
                phase = self.supervised(
                    name, self.teach, self.labels(), teacher.network.head, teacher.encoder
                )
                phase.seed, phase.section = self.teacher_seed, "teach"
            else:
                length = Length(0, self.teach["batch_size"], 1)
                phase = Phase(name, {"target": "target_train"}, [], length, Outputs(teacher))
            found.append(phase)
        return found

    def by_labels(self) -> list[Phase]:
        """The student that labels alone teach, from the same first weights, as long and with the
        same options as the other one."""
        if self.alone is None:
            return []
        phase = self.supervised(
            "alone", self.distil, self.labels(), self.alone.head, self.alone.encoder
        )
        phase.section = "distil"
        phase.sampling.leave_out = self.leave_out
        return [phase]

    def distilling(self) -> list[Phase]:
        """By default one phase."""
        return [self.distil_phase("distil", self.distil)]

    def distil_phase(
        self,
        name: str,
        options: Mapping[str, Any],
        more: Sequence[nn.Module] = (),
        *,
        begin: Callable[[], object] | None = None,
        **fields: Any,
    ) -> Phase:
        """A phase that teaches the student, and the networks ``more``, by :meth:`step`."""
        update = Update(
            "student",
            [self.encoder, self.head, *more],
            options["optimizer"],
            self.step,
            couples=self.couples,
        )
        usual = {
            "name": name,
            "reads": self.taught(),
            "updates": [update],
            "outputs": Outputs(self, embed={"source": self.features, "target": self.features}),
            "sampling": Sampling.of(options, leave_out=self.leave_out),
            "hooks": Hooks(
                begin, precompute=self.asking(self.answers) if self.fixed(options) else None
            ),
        }
        return Phase.of(options, **usual | fields)

    def fixed(self, options: Mapping[str, Any]) -> bool:
        """Whether a phase sees every image always as it is."""
        return not (
            options["augment"]
            and (self.setting.views or options.get("mixup") or options.get("cutmix"))
        )

    def matching(self) -> list[Phase]:
        """The one that moves biases and trains nothing."""
        if not self.match_prior:
            return []

        def report(batch: Batch, progress: float) -> tuple[Losses, Losses]:
            return {}, {
                f"bias_{c}": batch.precomputed["moved"][i] for i, c in enumerate(self.leave_out)
            }

        reads = {"target": "target_train", "labelled": "target_labelled"}
        options = {
            **self.distil,
            "augment": False,
            "ema": None,
            "patience": None,
            "mixup": 0.0,
            "cutmix": 0.0,
        }
        options |= {"epochs": 1, "steps_per_epoch": 1}
        update = Update("prior", [], None, report)
        return [
            self.distil_phase(
                "match_prior",
                options,
                updates=[update],
                reads=reads,
                hooks=Hooks(each_epoch=self.match),
                sampling=Sampling.of(options),
            )
        ]

    @torch.no_grad()
    def match(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Move each left-out class's bias so that it is answered as often as it is among the
        labels."""
        y = passes.labels("labelled")
        moves = shifts_to_prior(
            passes(self, "target"), {c: (y == c).float().mean().item() for c in self.leave_out}
        )
        self.head.bias[self.leave_out] += moves.to(self.head.bias)
        return {"moved": moves}

    def labels(self) -> dict[str, str]:
        """What is labelled."""
        return (
            self.reads(source="source_train")
            if "source_train" in self.setting.splits
            else {"target": "target_labelled"}
        )

    def taught(self) -> dict[str, str]:
        """What a distilling phase reads: as ``target`` what the teacher answers about; besides what
        is labelled, where that is not it."""
        every = self.needs_labels or self.setting.every_label
        if every and not self.setting.labelled:
            raise ConfigError(
                [
                    "this method compares the teacher's answers with labels: set "
                    "data.target_labels to a number a class, or to all."
                ]
            )
        reads = {"target": "target_labelled" if every else "target_train"}
        if not self.label_weight:
            return reads
        source = {"source": "source_train"} if "source_train" in self.setting.splits else {}
        labelled = {"labelled": "target_labelled"} if self.setting.labelled and not every else {}
        # the first one's size is an epoch's length, as it is where labels alone teach
        return source | labelled | reads

    def compared(self) -> dict[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor]]]:
        named: dict[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor]]] = {}
        for phase, teacher in zip(self.teaching(), self.every_teacher, strict=False):
            named[phase.name] = [teacher.network], teacher
        for phase in self.by_labels():
            named[phase.name] = [n for n in (self.alone,) if n], phase.outputs.predict
        return named | {self.distilling()[-1].name: ([self.encoder, self.head], self)}

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``teachers``: the runs or files that they come from."""
        return {"teachers": [t.record for t in self.every_teacher]} if self.setting.given else {}

    def networks(self) -> list[nn.Module]:
        return [
            self.encoder,
            self.head,
            *(self.alone.children() if self.alone else ()),
            *(t.encoder for t in self.every_teacher),
        ]

    # ---- a step

    def step(self, batch: Batch, progress: float) -> Losses:
        """batch.target.x: what the teacher answers about; the labels are those of whatever of the
        batch has some."""
        student, cross_entropy = self.learned(batch)
        return cross_entropy | dict(
            self.transfer(student, self.told(batch, self.answers), batch.target, progress)
        )

    def learned(self, batch: Batch) -> tuple[Seen, dict[str, Tensor]]:
        """(what the student makes of batch.target.x, its loss on the labels).

        Under ``bn=concat`` batch norm normalises all images together, else those of each split by
        themselves.
        """
        # the target's last
        parts = {name: part for name, part in vars(batch).items() if isinstance(part, Samples)}
        images = [part.x for part in parts.values()]
        if len(parts) == 1 or self.setting.bn == "concat" or not norms_of(self.encoder):
            seen = self.student(torch.cat(images) if len(parts) > 1 else images[0])
            logits = dict(zip(parts, seen.logits.split([len(x) for x in images]), strict=True))
            seen = seen.last(len(batch.target.x)) if len(parts) > 1 else seen
        else:
            logits = {
                name: self(part.x) for name, part in parts.items() if part is not batch.target
            }
            seen = self.student(batch.target.x)
            logits["target"] = seen.logits
        labelled = (
            [name for name, part in parts.items() if part.y is not None]
            if self.label_weight
            else []
        )
        if not labelled:
            return seen, {}
        known = (
            torch.cat([logits[name] for name in labelled])
            if len(labelled) > 1
            else logits[labelled[0]]
        )
        loss = cross_entropy(
            known, [parts[name] for name in labelled], self.distil["label_smoothing"]
        )
        return seen, {"cross_entropy": self.label_weight * loss}

    def told(self, batch: Batch, answers: Answers) -> dict[str, Tensor]:
        """What the teacher says about batch.target, asked now or before."""
        if kept := {
            name.removeprefix(TOLD): rows
            for name, rows in batch.precomputed.items()
            if name.startswith(TOLD)
        }:
            return {name: rows[batch.target.index] for name, rows in kept.items()}
        with torch.no_grad():
            return self.consult(batch.target.x, answers)

    def consult(self, x: Tensor, answers: Answers) -> dict[str, Tensor]:
        """What the teacher says about images (B, C, H, W), (B, ...) each."""
        return answers(self.asked[0](x))

    def asking(self, answers: Answers) -> Callable[[SplitPasses], dict[str, Tensor]]:
        """What asks the teacher about all images of a phase once, where they are always the same
        and its answers not too many."""

        @torch.no_grad()
        def ask(passes: SplitPasses) -> dict[str, Tensor]:
            two = torch.zeros(2, *self.setting.shape, device=next(self.parameters()).device)
            shapes = {name: out.shape[1:] for name, out in self.consult(two, answers).items()}
            widths = [prod(shape) for shape in shapes.values()]
            if 4 * sum(widths) * passes.size("target") > KEPT:
                return {}
            said = passes(
                lambda x: torch.cat(
                    [out.flatten(1) for out in self.consult(x, answers).values()], 1
                ),
                "target",
            )
            columns = zip(shapes.items(), said.split(widths, 1), strict=True)
            return {
                f"{TOLD}{name}": rows.unflatten(1, shape) if len(shape) != 1 else rows
                for (name, shape), rows in columns
            }

        return ask
