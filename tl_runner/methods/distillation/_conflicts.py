"""Settings of distillation that do not go together, or not with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl_runner.methods.distillation._base import Distillation


def conflicts(method: Distillation, teacher: Any, alone: bool) -> list[str]:
    """Messages about batch norm, labels, images and teachers.

    Args:
        method: with its options.
        teacher: ``method.teacher`` of the config.
        alone: whether a student is trained by labels alone.
    """
    setting, distil, found = method.setting, method.distil_options, []
    if setting.bn not in ("concat", "separate"):
        found.append(
            f"backbone.bn={setting.bn}: one student learns from all images. Choose separate "
            "or concat."
        )
    labels = setting.labelled or "source_train" in setting.splits or setting.deployed
    if not labels and (alone or method.label_weight or not setting.given):
        found.append(f"there are no labels: set data.target_labels{method.without_labels}.")
    if not distil["augment"] and (distil["mixup"] or distil["cutmix"]):
        found.append(
            "method.distil.augment=false mixes no images: set method.distil.mixup and cutmix to 0."
        )
    if isinstance(teacher, list) and len(teacher) > 1 and not method.several:
        found.append(
            f"method.teacher names {len(teacher)} teachers, and this method has one. "
            "method=multi_teacher has several."
        )
    return found


def conflicts_of_classes(method: Distillation) -> list[str]:
    """Messages about the classes that the student is not to see."""
    setting, leave_out, found = method.setting, method.leave_out, []
    classes = range(setting.num_classes)
    if bad := [c for c in leave_out if c not in classes]:
        found.append(f"method.leave_out={bad}: classes are numbered 0 to {len(classes) - 1}.")
    if len({*classes} - {*leave_out}) < 2:
        found.append(
            f"method.leave_out={leave_out} leaves {len(classes) - len({*leave_out})} "
            "classes: two are needed."
        )
    if leave_out and not setting.every_label:
        found.append(
            "method.leave_out tells the images by their labels: it needs data.target_labels=all."
        )
    if method.match_prior and not leave_out:
        found.append(
            "method.match_prior is about the classes of method.leave_out, which names none."
        )
    return found
