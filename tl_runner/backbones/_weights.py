"""First weights of a backbone from a file: a state dict, or a run of ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tl_runner.backbones._adapters import merged
from tl_runner.backbones._base import Backbone
from tl_runner.backbones._pixels import Pixels
from tl_runner.backbones._prompts import TOKENS
from tl_runner.backbones._tensor_kinds import unfit
from tl_runner.backbones._weights_file import content_of, tensors_of
from tl_runner.errors import CheckpointError, human_list

# under which others and we keep the weights
WRAPPED = (
    "method",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "state_dict_ema",
    "model_ema",
    "ema",
)
# of a backbone in a larger network, before any other that fits as well
PREFERRED = ("target_encoder.", "encoder.", "module.", "backbone.", "model.", "")
LEAST = 0.5  # of a backbone's weights that a file must have
# parts of the names that people give to what comes after a backbone
HEADS = ("head", "fc", "classifier", "linear", "heads", "last_linear", "logits")
AUXILIARY = ("AuxLogits", "aux1", "aux2")  # heads that only training needs
COUNTERS = ("num_batches_tracked", "n_averaged")  # no weights: files of old versions lack them


def read(path: Path, key: str = "backbone.weights") -> dict[str, Tensor]:
    """State dict of a file, ``.safetensors`` or PyTorch's, or of a run's folder.

    Of a run, the weights that its selection rule chose, adapters merged into them. ``key`` is the
    setting that names it.

    Raises:
        CheckpointError: it cannot be read, holds more than tensors, or no weights.
    """
    best, last = path / "checkpoints" / "best.pt", path / "checkpoints" / "last.pt"
    where = f"{key}={path}"
    file = (best if best.exists() else last) if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise CheckpointError(f"{where} is no run's folder: it has no checkpoints/{file.name}.")
    content = content_of(file, where)
    for wrap in WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(wrap), Mapping):
            content = content[wrap]
    found = tensors_of(content, where) if isinstance(content, Mapping) else {}
    if not found:
        raise CheckpointError(
            f"{where} holds no weights: a state dict or a run's folder is wanted."
        )
    ends = [name[:-1] for name in found if name.endswith(".0.b") and "parametrizations." in name]
    if any(f"{start}scale" not in found for start in ends):
        raise CheckpointError(
            f"{where}: an earlier version trained its adapters and did not keep their scale. "
            "tl-predict takes the run; to start from it, train it again."
        )
    try:
        return merged(found)
    except RuntimeError as error:
        raise CheckpointError(f"{where}: an adapter does not fit its weight ({error}).") from error


@dataclass(frozen=True)
class Match:
    """Tensors of a file that are a backbone's by whole name under one prefix, and by shape.

    Attributes:
        found: by the backbone's own name.
        prefix: of the file's names.
        names: the file's without the prefix, by the backbone's own.
    """

    found: dict[str, Tensor]
    prefix: str
    names: Mapping[str, str]

    @property
    def used(self) -> Collection[str]:
        """The file's names without the prefix."""
        return self.names.values()

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return sum(v.numel() for v in self.found.values())


def best_match(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Match:
    """The prefix of the file's names under which most of the backbone is there.

    Any that occurs is tried, none first of ours and the usual ones. A backbone that is one model in
    a module of its own is also looked for without that module's name.
    """
    names = {name: name for name in own}
    ways = [names]
    if len({name.partition(".")[0] for name in own}) == 1:
        ways.append({name: name.partition(".")[2] for name in own})
    occurring = dict.fromkeys(
        ".".join(parts[:i]) + "."
        for parts in (name.split(".") for name in given)
        for i in range(1, len(parts))
    )
    best = Match({}, "", {})
    for prefix in dict.fromkeys([*PREFERRED, *occurring]):
        for way in ways:
            there = {name: given.get(prefix + theirs) for name, theirs in way.items()}
            found = {k: v for k, v in there.items() if v is not None and v.shape == own[k].shape}
            match = Match(found, prefix, {name: way[name] for name in found})
            if match.size > best.size:
                best = match
    return best


def fill(
    backbone: Backbone, given: Mapping[str, Tensor], where: str, key: str = "backbone.weights"
) -> str:
    """Put weights into a backbone by name and shape, and return in words what matched.

    What is not there stays as it is, and is named in ``backbone.unfilled``.

    Raises:
        CheckpointError: less than half of the backbone's weights are there, the file has more
            layers of those that it is made of, or no usable values.
    """
    everything = backbone.state_dict()
    constants = [
        f"{path}.{name}"
        for path, module in backbone.named_modules()
        if isinstance(module, Pixels)
        for name, _ in module.named_buffers()
    ]
    own = {name: value for name, value in everything.items() if name not in constants}
    try:
        given = backbone.translate(given)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{key}={where} does not fit this backbone ({line}).") from error
    match = best_match(own, given)
    found, total = match.found, sum(v.numel() for v in own.values())
    if match.size < LEAST * total:
        raise CheckpointError(_little(match, own, given, where, key))
    left = [
        name.removeprefix(match.prefix)
        for name in given
        if name.startswith(match.prefix)
        and name.removeprefix(match.prefix) not in (*match.used, *constants)
    ]
    left = [name for name in left if not name.endswith(COUNTERS)]
    if any(name.endswith(TOKENS) for name in left):
        raise CheckpointError(
            f"{key}={where} learned prompts, without which its network is another, and only "
            "method=prompt holds them. tl-predict takes the run as it is; method=lora leaves "
            "weights that any method can start from."
        )
    if deeper := _of_its_layers(left, match.used, given, match.prefix):
        raise CheckpointError(
            f"{key}={where} is of another network: all {len(found)} tensors that it shares with "
            f"this backbone fit, and it has {len(deeper)} more in the same blocks "
            f"({human_list(deeper, 3)}). Name the network that it is of, with backbone= or "
            "backbone.name=."
        )
    pixels = {
        name: given[match.prefix + name] for name in constants if match.prefix + name in given
    }
    names = {name: match.prefix + match.names.get(name, name) for name in (*found, *pixels)}
    taken = usable(found | pixels, everything, names, f"{key}={where}")
    backbone.load_state_dict(taken, strict=False)
    backbone.unfilled = [k for k in own if k not in found and not k.endswith(COUNTERS)]
    filled = len(found) if backbone.unfilled else len(own)  # counters are no weights
    under = f" under {match.prefix}" if match.prefix else ""
    said = f"backbone: {filled} of {len(own)} tensors from {where}{under}"
    return f"{said}, {len(left)} more not used ({human_list(left, 3)})" if left else said


def usable(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """Tensors of a file in the types of a network's ``own``, without counters of another kind.

    Args:
        found: by the network's names.
        own: what they take the place of.
        names: the file's, by the network's.
        where: the setting that names the file, and its path.

    Raises:
        CheckpointError: one is of another kind than the network's, or is NaN or infinite.
    """
    taken, broken = {}, []
    for name, given in found.items():
        if wrong := unfit(given, own[name]):
            if name.endswith(COUNTERS):
                continue
            raise CheckpointError(f"{where}: {names[name]} {wrong[0]}. {wrong[1]}")
        taken[name] = given.to(own[name].dtype)
        if not taken[name].isfinite().all() and own[name].isfinite().all():
            broken.append(names[name])
    if broken:
        raise CheckpointError(
            f"{where} has NaN or infinite values in {len(broken)} of {len(found)} tensors that "
            f"this network would take ({human_list(broken, 2)}): the training that made them "
            "diverged, or the file is damaged. Take other weights."
        )
    return taken


def _of_its_layers(
    left: Sequence[str], used: Collection[str], given: Mapping[str, Tensor], prefix: str
) -> list[str]:
    """Tensors that were left over, lie in blocks that the backbone has, and are no head's."""
    blocks = {name.partition(".")[0] for name in used if "." in name}
    inside = [name for name in left if name.partition(".")[0] in blocks]
    last = [name for name in given if name.startswith(prefix)][-1].removeprefix(prefix)
    head = last.rpartition(".")[0]  # the last layer, as in VGG's classifier.6
    weight = given.get(f"{prefix}{head}.weight")
    if weight is None or weight.dim() != 2:
        head = ""
    return [
        name
        for name in inside
        if not {*HEADS, *AUXILIARY} & {*name.split(".")[1:]}
        and (not head or name.rpartition(".")[0] != head)
    ]


def _little(
    match: Match, own: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str, key: str
) -> str:
    """Message for a file that has too little of a backbone."""
    total = sum(v.numel() for v in own.values())
    missing = ", ".join([k for k in own if k not in match.found][:3])
    whose, cure = "this backbone", "Is it of another backbone?"
    if key == "method.teacher":
        whose = "the teacher"
        cure = (
            "Name its network with backbone@teacher= and teacher.*, or a run's folder, "
            "which brings its own."
        )
    return (
        f"{key}={where} fits {match.size / total:.0%} of {whose}'s weights by name and shape "
        f"(not {missing}, ...; the file has {', '.join([*given][:3])}, ...). {cure}"
    )
