"""The family of distillation: a student learns from labels and from the outputs of teachers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from torch import nn

from tl_runner.backbones._batch_norm import norms_of
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Method, supervised_phase
from tl_runner.methods.distillation._conflicts import conflicts, conflicts_of_classes
from tl_runner.methods.distillation._student import StudentOutputs, label_loss, student_outputs
from tl_runner.methods.distillation._teacher import (
    Network,
    Teacher,
    precompute_outputs,
    teacher_outputs,
)
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase, Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.distillation._student import Forward
    from tl_runner.methods.distillation._teacher import Query
    from tl_runner.methods.setting import Setting


class Distillation(Method):
    """Phases: ``teach`` for the teacher, ``alone`` for a student by labels alone, ``distil``.

    A method's :meth:`step` is what the student of ``distil`` minimises. The labels are those of the
    source, if there is one, and of the target's labelled images. Teachers are queried about the
    target's training images, labelled or not; about the labelled ones alone where
    ``needs_labels``. They stay in eval mode and as they are.

    Args:
        teacher: a run's folder, or a file of weights; null: trained here.
        teacher_seed: of its training; null: the run's.
        teach, distil: lengths and optimisers; those of ``distil`` are also the student's that
            labels alone teach.
        alone: whether that one is trained.
        label_weight: of the labels' cross-entropy beside the losses of the teachers' outputs.
        leave_out: classes whose images the student never sees.
        match_prior: move the head's biases of these classes at the end until each is answered as
            often, on the target's training images, as its share of the labels.
        teachers: how many are trained.

    Attributes:
        needs_labels: the losses compare the teachers' outputs with labels.
        couples: the losses are no mean over the batch's samples.
        several: there may be several teachers.
        without_labels: how the method would do without labels, as the end of a message.
        teachers: the networks, :class:`Teacher` each; ``teacher_list`` are the same.
        alone: the student that labels alone teach, or None.

    Raises:
        ConfigError: settings that do not go together; no labels.
    """

    titles: Mapping[str, str] = {"teach": "teacher", "alone": "student alone"}
    baseline = "alone"
    needs_labels = False
    couples = False
    several = False
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
    ):
        super().__init__(setting)
        self.encoder, self.head = self.encoder_and_head()
        self.teach_options, self.distil_options, self.label_weight = teach, distil, label_weight
        self.teacher_seed = setting.seed if teacher_seed is None else teacher_seed
        self.leave_out, self.match_prior = [*leave_out], match_prior
        if problems := [*conflicts(self, teacher, alone), *conflicts_of_classes(self)]:
            raise ConfigError(problems)
        self.trains_teachers = not setting.given and not setting.deployed
        self.scaffold = ("teachers", "alone")
        self.elsewhere = ("teachers",) if setting.given else ()
        self.teacher_list = (
            [self.make_teacher(i) for i in range(teachers)]
            if self.trains_teachers
            else [t for t in setting.given if isinstance(t, Teacher)]
        )
        self.teachers = nn.ModuleList(self.teacher_list)
        self.saw_target_labels = any(t.record.get("uses_target_labels") for t in self.teacher_list)
        self.warnings = [warning for t in self.teacher_list for warning in t.warnings]
        self.alone = Network(*self.encoder_and_head()) if alone and not setting.deployed else None
        self.one_pass = setting.bn == "concat" or not norms_of(self.encoder)

    # ---- networks

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the student's logits (B, K)."""
        return self.head(self.encoder(x))

    def make_teacher(self, number: int) -> Teacher:
        """A new teacher; number 0 is the same for every method."""
        assert self.setting.make_teacher
        suffix = f"_{number + 1}" if number else ""
        encoder = self.fresh(f"backbone{suffix}", self.setting.make_teacher, self.teacher_seed)
        head = self.fresh(
            f"head{suffix}",
            lambda: nn.Linear(encoder.out_features, self.setting.num_classes),
            self.teacher_seed,
        )
        return Teacher(Network(encoder, head), encoder)

    def networks(self) -> list[nn.Module]:
        return [
            self.encoder,
            self.head,
            *(self.alone.children() if self.alone else ()),
            *(t.encoder for t in self.teacher_list),
        ]

    # ---- a step of the student, and its parts

    @abstractmethod
    def step(self, batch: Batch, progress: float) -> Losses:
        """Losses of the student.

        Args:
            batch: ``target`` holds the images about which the teachers are queried; labels count
                wherever a domain has some.
            progress: of the phase, in [0, 1).
        """

    def student_outputs(self, batch: Batch, forward: Forward | None = None) -> StudentOutputs:
        """Outputs of the student for a batch, by default without those of inner layers.

        Under ``bn=concat`` batch norm normalises all images together, else those of each domain by
        themselves.
        """
        return student_outputs(forward or self._forward, batch, self.one_pass)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        features = self.encoder(x)
        return self.head(features), features, {}

    def label_loss(self, batch: Batch, student: StudentOutputs) -> dict[str, Tensor]:
        """``cross_entropy`` of all labelled images, weighted; nothing where no label counts."""
        if not self.label_weight:
            return {}
        loss = label_loss(batch, student.logits_by_domain, self.distil_options["label_smoothing"])
        return {} if loss is None else {"cross_entropy": self.label_weight * loss}

    def teacher_outputs(self, batch: Batch) -> Mapping[str, Tensor]:
        """:meth:`query_teachers` of ``batch.target``, precomputed or computed now."""
        return teacher_outputs(batch, self.query_teachers)

    def query_teachers(self, x: Tensor) -> Mapping[str, Tensor]:
        """The teachers' outputs that the student learns from, (B, ...) each, for images."""
        return {"logits": self.teacher_list[0](x)}

    # ---- phases

    def phases(self) -> list[Phase]:
        return [
            *self.teacher_phases(),
            *self.alone_phases(),
            *self.distil_phases(),
            *self.prior_phases(),
        ]

    def teacher_phases(self) -> list[Phase]:
        """A phase for each teacher: it trains it, or only scores one that was given."""
        if self.setting.deployed:
            return []
        found = []
        for number, teacher in enumerate(self.teacher_list):
            name, options = f"teach_{number + 1}" if number else "teach", self.teach_options
            if self.trains_teachers:
                assert isinstance(teacher.network, Network)
                phase = supervised_phase(
                    name, options, self.labelled_reads(), teacher.encoder, teacher.network.head
                )
                phase.seed, phase.section = self.teacher_seed, "teach"
            else:
                length = Length(0, options["batch_size"], 1)
                phase = Phase(name, {"target": "target_train"}, [], length, Outputs(teacher))
            found.append(phase)
        return found

    def alone_phases(self) -> list[Phase]:
        """The phase that trains a student by labels alone.

        It starts from the other one's first weights, and is as long, with the same options.
        """
        if self.alone is None:
            return []
        phase = supervised_phase(
            "alone",
            self.distil_options,
            self.labelled_reads(),
            self.alone.encoder,
            self.alone.head,
        )
        phase.section = "distil"
        phase.sampling.leave_out = self.leave_out
        return [phase]

    def distil_phases(self) -> list[Phase]:
        """The phases that train the student by :meth:`step`; by default one."""
        return [self.student_phase("distil", self.distil_options)]

    def prior_phases(self) -> list[Phase]:
        """The phase that moves biases, where it is asked for."""
        if not self.match_prior:
            return []
        from tl_runner.methods.distillation._prior import prior_phase  # few runs ask for it

        return [prior_phase(self)]

    def student_phase(
        self,
        name: str,
        options: Mapping[str, Any],
        more: Sequence[nn.Module] = (),
        **fields: Any,
    ) -> Phase:
        """A phase that trains the student by :meth:`step`.

        Args:
            name: of the phase.
            options: its section of the config.
            more: networks that are trained beside the student.
            fields: of :class:`Phase`, in the place of those made here.
        """
        update = Update(
            "student",
            [self.encoder, self.head, *more],
            options["optimizer"],
            self.step,
            couples=self.couples,
        )
        usual = {
            "name": name,
            "reads": self.distil_reads(),
            "updates": [update],
            "outputs": Outputs(self, embed={"source": self.encoder, "target": self.encoder}),
            "sampling": Sampling.of(options, leave_out=self.leave_out),
            "hooks": Hooks(precompute=self.precompute(options, self.query_teachers)),
        }
        return Phase.of(options, **usual | fields)

    def precompute(
        self, options: Mapping[str, Any], query: Query
    ) -> Callable[[SplitPasses], dict[str, Tensor]] | None:
        """A hook that queries the teachers once, for a phase whose images are always the same."""
        mixed = options.get("mixup") or options.get("cutmix")
        if options["augment"] and (self.setting.views or mixed):
            return None
        return precompute_outputs(query, self.teachers, self.setting.shape)

    def labelled_reads(self) -> dict[str, str]:
        """The labelled splits, as a phase reads them."""
        if "source_train" in self.setting.splits:
            return self.reads(source="source_train")
        return {"target": "target_labelled"}

    def distil_reads(self) -> dict[str, str]:
        """The splits that the student learns from.

        ``target`` holds the images about which the teachers are queried; the other domains are
        labelled images, where these are others.
        """
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

    # ---- the record

    def compared(self) -> dict[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor]]]:
        named: dict[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor]]] = {}
        for phase, teacher in zip(self.teacher_phases(), self.teacher_list, strict=False):
            named[phase.name] = [teacher.network], teacher
        for phase in self.alone_phases():
            named[phase.name] = [n for n in (self.alone,) if n], phase.outputs.predict
        return named | {self.distil_phases()[-1].name: ([self.encoder, self.head], self)}

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``teachers``: the runs or files that they come from."""
        return {"teachers": [t.record for t in self.teacher_list]} if self.setting.given else {}
