"""What is checked of learners of few-shot tasks before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def impossible_tasks(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings of few-shot tasks that are right one by one and cannot run together."""
    method, data = config["method"], config["data"]
    chunk, tasks = method.get("chunk"), method.get("meta", {}).get("batch_size", 1)
    if chunk and tasks % chunk:
        yield (
            f"method.chunk={chunk} does not divide method.meta.batch_size={tasks}, the tasks of "
            "a meta-batch."
        )
    if chunk and method["task_batching"] != "vmap":
        yield (
            f"method.chunk={chunk} is of method.task_batching=vmap, not "
            f"{method['task_batching']}. Set that, or leave method.chunk out."
        )
    if (
        "inner" in method
        and (ways := data.get("training", {}).get("ways"))
        and ways != data.get("ways")
    ):
        yield (
            f"data.training.ways={ways}: a head has as many outputs in training as in tests, "
            f"{data['ways']}. method=protonet has none."
        )
    if method.get("bn") == "running" and "inner" in method:
        yield (
            f"method.bn=running: method={method['name']} adapts weights to a task's own images. "
            "Choose transductive or support."
        )
    if "episodes" in data.get("gives", ()) and "ways" not in data:
        for key, value in (
            ("selection", config["selection"]),
            ("method.meta.patience", method.get("meta", {}).get("patience")),
        ):
            if value not in (None, "last"):
                yield (
                    f"{key}={value} goes by an accuracy, and the tasks of this data ask for a "
                    "number. Leave it out."
                )
    if "meta" in method and config["backbone"].get("bn", "separate") != "separate":
        yield (
            f"backbone.bn={config['backbone']['bn']} is about two domains, and few-shot tasks "
            "have none. method.bn is theirs."
        )
    backbone = config["backbone"]
    if "inner" in method and "pooling" in backbone and not backbone.get("frozen"):
        yield (
            f"method={method['name']} adapts weights to every task, which a text encoder's cannot "
            "be. Set backbone.frozen=true backbone.bottleneck=128, or take backbone=tfidf or "
            "method=protonet."
        )
    drawn = "episodes" in data.get("gives", ()) and "ways" not in data
    if drawn and config["backbone"].get("frozen"):
        yield (
            "backbone.frozen=true: features are computed once for stored samples, and the "
            "tasks of this data draw new numbers. Leave it out."
        )
    if "meta" in method and method["meta"].get("accumulate", 1) != 1:
        yield (
            f"method.meta.accumulate={method['meta']['accumulate']}: method.task_batching cuts "
            "a meta-batch. Leave accumulate at 1."
        )
    if (
        "meta" in method
        and config["device"]["precision"] in ("bf16", "fp16")
        and config["device"]["name"] == "cpu"
    ):
        yield (
            f"device.precision={config['device']['precision']}: on a CPU autocast misses what "
            "tasks compute together. Choose fp32."
        )
    for key in ("compile", "cuda_graphs"):
        if "meta" in method and config["device"].get(key):
            yield (
                f"device.{key}=true: the gradients of an inner loop cannot be compiled yet. "
                "Leave it false."
            )
    if "meta" in method and method["meta"].get("steps_per_epoch") is None:
        yield (
            "method.meta.steps_per_epoch=null: tasks have no end. Set it, or "
            "train.steps_per_epoch, to a number."
        )
    if "episodes" in data.get("gives", ()) and "episodes" not in method.get("needs", ()):
        yield (
            f"data={data['name']} gives few-shot tasks, which method={method['name']} does not "
            "learn from: method=maml or protonet does."
        )
