"""Losses between a student's outputs and a teacher's: of logits, hidden layers and relations.

Every loss is a mean over the batch. A teacher's part gets no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_runner.losses.precision import full_precision

ATTENTION_FORMS = ("code", "paper")


def softened_cross_entropy(logits: Tensor, recorded: Tensor, temperature: float) -> Tensor:
    """-sum_k softmax(recorded / T)_k log softmax(logits / T)_k; T^2 is not in it.

    Li & Hoiem, "Learning without Forgetting", ECCV 2016, eq. 2-3, whose y'^(1/T) / sum is the
    softmax of logits over T; the second term of Romero et al., "FitNets", ICLR 2015, eq. 2. It is
    least, the entropy of the recorded answers, where the two agree.

    Args:
        logits: of the network that learns, (B, K).
        recorded: of the other one, (B, K).
        temperature: T, above 1 softens.
    """
    log_probabilities = F.log_softmax(full_precision(logits) / temperature, dim=1)
    return (
        -(F.softmax(full_precision(recorded.detach()) / temperature, dim=1) * log_probabilities)
        .sum(dim=1)
        .mean()
    )


def soft_targets(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(logits / T)), in nats.

    Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2: T^2
    keeps the gradient's size whatever T is; for a large T and centred logits it is (z_s - z_t) / K
    per image (eq. 4).

    Args:
        logits, teacher: (B, K).
        temperature: T.
    """
    log_p, log_teacher_p = (
        F.log_softmax(full_precision(z) / temperature, dim=1) for z in (logits, teacher.detach())
    )
    return F.kl_div(log_p, log_teacher_p, reduction="batchmean", log_target=True) * temperature**2


def decoupled(
    logits: Tensor, teacher: Tensor, y: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """T^2 times TCKD and NCKD, the two parts of :func:`soft_targets`, each (B,).

    TCKD is of the label's class against all others, NCKD among these.

    Zhao, Cui, Song, Qiu & Liang, "Decoupled Knowledge Distillation", CVPR 2022, eq. 4-7: TCKD + (1
    - p_y) NCKD is the whole, with p_y the teacher's probability of the label at this temperature.

    Args:
        logits, teacher: (B, K).
        y: labels, int64 (B,).
        temperature: T.
    """
    wrong = torch.arange(logits.shape[1] - 1, device=y.device)
    wrong = wrong + (wrong >= y[:, None])  # (B, K - 1): every class but the label's
    parts = []
    for z in (logits, teacher.detach()):
        log_p = F.log_softmax(full_precision(z) / temperature, dim=1)
        others = log_p.gather(1, wrong)
        log_rest = others.logsumexp(1, keepdim=True)
        parts.append((torch.cat([log_p.gather(1, y[:, None]), log_rest], 1), others - log_rest))
    (own_target, own_others), (target, others) = parts
    tckd, nckd = (
        F.kl_div(s, t, reduction="none", log_target=True).sum(1) * temperature**2
        for s, t in ((own_target, target), (own_others, others))
    )
    return tckd, nckd


def hint_distance(guided: Tensor, hint: Tensor) -> Tensor:
    """1/2 ||hint - guided||^2, (B, ...) each.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3; ``guided`` has been
    through the regressor.
    """
    return (full_precision(hint.detach()) - full_precision(guided)).square().flatten(1).sum(
        1
    ).mean() / 2


def attention(maps: Tensor) -> Tensor:
    """Attention of a layer, as vectors of length 1 (B, H W): squares of its maps over the channels.

    Args:
        maps: (B, C, H, W).

    Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, F_sum^2 of section 3.1,
    over its norm as in eq. 2.
    """
    return F.normalize(full_precision(maps).square().sum(1).flatten(1), dim=1)


def attention_distance(student: Tensor, teacher: Tensor, form: str) -> Tensor:
    """Distance between the :func:`attention` of two layers, (B, H W) each.

    Args:
        form: ``paper`` is half the norm of the difference, as eq. 2 has it; ``code`` the mean of
            its squares, as the authors' program has it, H W times smaller than the squared norm.

    Raises:
        ValueError: there is no such form.
    """
    if form not in ATTENTION_FORMS:
        raise ValueError(f"form={form} should be one of {', '.join(ATTENTION_FORMS)}")
    difference = student - teacher.detach()
    return difference.square().mean() if form == "code" else difference.norm(dim=1).mean() / 2


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D: Huber's loss between both networks' distances of all pairs, over their means.

    Park, Kim, Lu & Cho, "Relational Knowledge Distillation", CVPR 2019, eq. 4-7; a mean over the
    pairs, as in the authors' program, so that its weight of 25 means the same for every batch.

    Args:
        student: features (B, d_s).
        teacher: features (B, d_t).
    """
    distances, teacher_distances = (
        _relative(torch.pdist(full_precision(z))) for z in (student, teacher.detach())
    )
    return F.smooth_l1_loss(distances, teacher_distances)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-A: Huber's loss between both networks' cosines of the angles of all triples, eq. 8-9.

    A mean over the triples of different images.

    Args:
        student: features (B, d_s).
        teacher: features (B, d_t).
    """
    cosines, teacher_cosines = (_cosines(full_precision(z)) for z in (student, teacher.detach()))
    n = len(cosines)
    same = torch.eye(n, dtype=torch.bool, device=cosines.device)
    distinct = ~(same[:, :, None] | same[:, None, :] | same[None, :, :])
    return F.smooth_l1_loss(cosines, teacher_cosines, reduction="none").mul(distinct).sum() / (
        n * (n - 1) * (n - 2)
    )


def _relative(distances: Tensor) -> Tensor:
    return distances / distances.mean().clamp(min=1e-12)


def _cosines(z: Tensor) -> Tensor:
    """(B, B, B): at [j, i, k] the cosine of the angle at j between i and k."""
    between = z[None] - z[:, None]  # [j, i]: from j to i
    lengths = between.square().sum(2, keepdim=True)
    # two that are the same have no direction, and no gradient
    near = lengths <= 1e-8 * lengths.detach().mean()
    directions = between * torch.where(near, 0.0, torch.where(near, 1.0, lengths).rsqrt())
    with torch.autocast(z.device.type, enabled=False):
        return directions @ directions.mT


def agreement(probabilities: Tensor) -> Tensor:
    """Shares of M teachers for each image, (B, M), by their agreement; they add up to 1.

    A teacher counts as the chance that its class is another's too, both drawn from their
    probabilities.

    Args:
        probabilities: (B, M, K).
    """
    others = (probabilities * (probabilities.sum(1, keepdim=True) - probabilities)).sum(2)
    total = others.sum(1, keepdim=True)
    # where no two agree, all alike
    return torch.where(total > 1e-12, others / total.clamp(min=1e-12), 1 / others.shape[1])


def mixture(logits: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Logits (B, K) whose softmax at T is the mixture of M teachers' softmax at T.

    Args:
        logits: (B, M, K).
        shares: of the teachers, (B, M) or (M,).
        temperature: T.
    """
    p = F.softmax(full_precision(logits) / temperature, dim=2)
    return temperature * (shares.expand(len(p), -1)[:, :, None] * p).sum(1).clamp(min=1e-30).log()


def gate_loss(log_shares: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    """-log sum_m g_m p_m(y): the mixture of M teachers gives the labels much.

    Jacobs, Jordan, Nowlan & Hinton, "Adaptive Mixtures of Local Experts", 1991, for classes.

    Args:
        log_shares: log g, (B, M).
        logits: of the teachers, (B, M, K).
        y: labels, int64 (B,).
    """
    of_label = logits.log_softmax(2).gather(2, y[:, None, None].expand(-1, logits.shape[1], 1))
    return -(log_shares + of_label[:, :, 0]).logsumexp(1).mean()
