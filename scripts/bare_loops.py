"""Training loops as one would write them by hand for one method each: no configuration, metrics,
counters or seeding per step.

``bench_loop.py`` measures the runner's loop against them. A method is a function of :data:`BARE`,
named as in ``conf/method``, that makes its networks' optimisers and returns its step; batch norm
normalises each domain by itself (``backbone.bn=separate``), in a forward pass each. Those of model
transfer are in ``bare_transfer.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from bare import Bare, Ground, Learner, classify, joint, view
from bare_distillation import DISTILLATION
from bare_transfer import TRANSFER
from torch import Tensor, nn

from tl_runner.losses.adversarial import (
    adaptation_factor,
    discriminator_loss,
    inverted_label_loss,
    reverse_gradient,
)
from tl_runner.losses.conditional import entropy_weights, multilinear_map
from tl_runner.losses.coral import coral
from tl_runner.losses.discrepancy import classifier_discrepancy
from tl_runner.losses.mmd import median_bandwidths, mmd
from tl_runner.losses.self_training import (
    centroid_pseudo_labels,
    information_maximisation,
    minimum_class_confusion,
)
from tl_runner.methods.batch import Samples

CHUNK = 500  # images at once in a pass over a whole split


def source_only(ground: Ground) -> Bare:
    return classify(ground, "source")


def target_only(ground: Ground) -> Bare:
    return classify(ground, "target")


def dann(ground: Ground) -> Bare:
    discriminator, weight = ground.method.discriminator, ground.options["weight"]

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        judged = discriminator(reverse_gradient(features, weight * adaptation_factor(progress)))
        return discriminator_loss(*judged.chunk(2))

    return joint(ground, transfer, discriminator)


def cdan(ground: Ground) -> Bare:
    discriminator, weight = ground.method.discriminator, ground.options["weight"]
    combine, entropy = ground.method.map or multilinear_map, ground.options["entropy"]

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        scale = weight * adaptation_factor(progress)
        judged = discriminator(
            reverse_gradient(combine(features, logits.detach().softmax(1)), scale)
        )
        weights = [entropy_weights(part, scale) for part in logits.chunk(2)] if entropy else []
        return discriminator_loss(*judged.chunk(2), *weights)

    return joint(ground, transfer, discriminator)


def dan(ground: Ground) -> Bare:
    options = ground.options

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        return options["weight"] * (distance(*features.chunk(2)) + distance(*logits.chunk(2)))

    def distance(source: Tensor, target: Tensor) -> Tensor:
        bandwidths = median_bandwidths(source, target, options["kernels"], options["kernel_ratio"])
        return mmd([source], [target], [bandwidths], options["estimator"])

    return joint(ground, transfer)


def jan(ground: Ground) -> Bare:
    options = ground.options

    def transfer(features: Tensor, logits: Tensor, progress: float) -> Tensor:
        layers = [layer.chunk(2) for layer in (features, logits.softmax(1))]
        bandwidths = [
            median_bandwidths(*layer, options["kernels"], options["kernel_ratio"])
            for layer in layers
        ]
        return (
            options["weight"]
            * adaptation_factor(progress)
            * mmd(*zip(*layers, strict=True), bandwidths, options["estimator"])
        )

    return joint(ground, transfer)


def deepcoral(ground: Ground) -> Bare:
    weight = ground.options["weight"]
    return joint(ground, lambda features, logits, progress: weight * coral(*logits.chunk(2)))


def mcc(ground: Ground) -> Bare:
    weight, temperature = ground.options["weight"], ground.options["temperature"]
    return joint(
        ground,
        lambda features, logits, progress: (
            weight * minimum_class_confusion(logits.chunk(2)[1], temperature)
        ),
    )


def drcn(ground: Ground) -> Bare:
    encoder, head, decoder = ground.method.encoder, ground.method.head, ground.method.decoder
    classifier, autoencoder = (
        Learner(ground, [encoder, head]),
        Learner(ground, [encoder, decoder], "reconstruction_optimizer"),
    )
    smoothing, noise = ground.section["label_smoothing"], ground.options["noise"]

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = F.cross_entropy(head(encoder(source.x)), source.y, label_smoothing=smoothing)
        classifier.descend(loss, progress)
        with ground.device.autocast():
            noisy = target.x * (torch.rand_like(target.x) >= noise)
            loss = F.mse_loss(decoder(encoder(noisy)), target.x)
        autoencoder.descend(loss, progress)

    return Bare(step, [encoder, head, decoder])


def mcd(ground: Ground) -> Bare:
    encoder, heads = (
        ground.method.encoder,
        nn.ModuleList([ground.method.head_a, ground.method.head_b]),
    )
    learners = [Learner(ground, networks) for networks in ([encoder, heads], [heads], [encoder])]
    smoothing, agree_steps = ground.section["label_smoothing"], ground.options["agree_steps"]

    def classified(features: Tensor, y: Tensor) -> Tensor:
        return sum(F.cross_entropy(head(features), y, label_smoothing=smoothing) for head in heads)

    def discrepancy(features: Tensor) -> Tensor:
        return classifier_discrepancy(*(head(features) for head in heads))

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            loss = classified(encoder(source.x), source.y)
        learners[0].descend(loss, progress)
        with ground.device.autocast():
            with torch.no_grad():
                of_source, of_target = encoder(source.x), encoder(target.x)
            loss = classified(of_source, source.y) - discrepancy(of_target)
        learners[1].descend(loss, progress)
        heads.requires_grad_(False)
        for _ in range(agree_steps):
            with ground.device.autocast():
                loss = discrepancy(encoder(target.x))
            learners[2].descend(loss, progress)
        heads.requires_grad_(True)

    return Bare(step, [encoder, heads])


def adda(ground: Ground) -> Bare:
    source_encoder, encoder, head = (
        ground.method.encoder,
        ground.method.target_encoder,
        ground.method.head,
    )
    discriminator = ground.method.discriminator
    of_discriminator, of_encoder = (
        Learner(ground, [discriminator], "discriminator_optimizer"),
        Learner(ground, [encoder]),
    )

    def step(source: Samples, target: Samples, progress: float) -> None:
        with ground.device.autocast():
            with torch.no_grad():
                codes = torch.cat([head(source_encoder(source.x)), head(encoder(target.x))])
            loss = discriminator_loss(*discriminator(codes).chunk(2))
        of_discriminator.descend(loss, progress)
        discriminator.requires_grad_(False)
        with ground.device.autocast():
            loss = inverted_label_loss(discriminator(head(encoder(target.x))))
        of_encoder.descend(loss, progress)
        discriminator.requires_grad_(True)

    return Bare(step, [encoder, discriminator])


def adabn(ground: Ground) -> Bare:
    encoder, norms = ground.method.target_encoder, ground.method.norms

    def step(target: Samples, progress: float) -> None:
        before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        with torch.no_grad(), ground.device.autocast():
            encoder(target.x)
        for norm, (mean, variance) in zip(norms, before, strict=True):
            norm.running_mean.copy_(mean.lerp(norm.running_mean, 1 / norm.num_batches_tracked))
            norm.running_var.copy_(variance.lerp(norm.running_var, 1 / norm.num_batches_tracked))

    return Bare(step, [encoder])


def shot(ground: Ground) -> Bare:
    encoder, head, weight = (
        ground.method.target_encoder,
        ground.method.head,
        ground.options["pseudo_weight"],
    )
    learner, labels = Learner(ground, [encoder]), torch.empty(0)

    def chunks() -> Iterator[Tensor]:
        for x in ground.splits["target"].x.split(CHUNK):
            ground.device.begin_step()
            with ground.device.autocast():
                yield encoder(view(x, None, ground.device)).float().clone()

    @torch.no_grad()
    def label() -> None:
        nonlocal labels
        ground.method.eval()
        features = torch.cat([*chunks()])
        labels = centroid_pseudo_labels(features, head(features).softmax(1))

    def step(target: Samples, progress: float) -> None:
        with ground.device.autocast():
            logits = head(encoder(target.x))
            entropy, diversity = information_maximisation(logits)
            loss = entropy - diversity + weight * F.cross_entropy(logits, labels[target.index])
        learner.descend(loss, progress)

    return Bare(step, [encoder], label)


BARE: dict[str, Callable[[Ground], Bare]] = {
    "source_only": source_only,
    "target_only": target_only,
    "dan": dan,
    "deepcoral": deepcoral,
    "jan": jan,
    "dann": dann,
    "cdan": cdan,
    "cdan_e": cdan,
    "mcd": mcd,
    "mcc": mcc,
    "drcn": drcn,
    "adda": adda,
    "adda_paper": adda,
    "adabn": adabn,
    "shot": shot,
    **TRANSFER,
    **DISTILLATION,
}
