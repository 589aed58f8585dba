"""Affine views: what each range does, and that every image draws its own."""

import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from tl_runner.data.augment import Affine, Views


def images(n=3):
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_no_range_is_off_and_the_identity():
    assert not Affine()
    torch.testing.assert_close(Affine()(images(), None), images(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["rotate", "translate", "scale"])
def test_it_is_torchvisions_affine_map(kind):
    amount = {"rotate": 30.0, "translate": 0.2, "scale": 0.4}[kind]
    generator = torch.Generator().manual_seed(5)
    view = Affine(**{kind: amount})(images(1), generator)
    u = torch.rand(1, 6, generator=torch.Generator().manual_seed(5))[0] * 2 - 1
    angle = u[0].item() * amount if kind == "rotate" else 0.0
    shift = (
        [-u[4].item() * amount * 28, -u[5].item() * amount * 28]
        if kind == "translate"
        else [0.0, 0.0]
    )
    scale = (1 + amount) ** u[2].item() if kind == "scale" else 1.0
    # torchvision turns the picture, ours the grid it is read from: the angle's sign differs
    same = vision.affine(
        images(1),
        angle=-angle,
        translate=shift,
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=vision.InterpolationMode.BILINEAR,
    )
    inside = (..., slice(3, -3), slice(3, -3)) if kind == "rotate" else ...
    # torchvision rounds a translation to whole pixels on tensors only for nearest; bilinear keeps
    # fractions
    assert (view - same)[inside].abs().mean() < 0.02


def test_each_image_draws_its_own_and_the_generator_decides():
    same = images(1).expand(4, 1, 28, 28).contiguous()
    augment = Affine(rotate=20, translate=0.1, scale=0.2, stretch=0.2, shear=10)
    first = augment(same, torch.Generator().manual_seed(1))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, augment(same, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(same, torch.Generator().manual_seed(2)))


def test_maps_keep_within_their_ranges():
    theta = Affine(scale=0.25, stretch=0.44).theta(2000, torch.Generator().manual_seed(0))
    wide, high = 1 / theta[:, 0, 0], 1 / theta[:, 1, 1]
    area = (wide * high).sqrt()
    assert area.max() <= 1.25 + 1e-5
    assert area.min() >= 1 / 1.25 - 1e-5
    assert (wide / high).max() <= 1.44 + 1e-5
    assert theta[:, :, 2].abs().max() == 0


def colours(n=4):
    return torch.rand(n, 3, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_change_as_torchvisions_do_image_by_image(kind):
    x = colours()
    views = Views(**{kind: 0.4})(x, torch.Generator().manual_seed(3))
    factors = 1 + 0.4 * (2 * torch.rand(4, 1, 1, 1, generator=torch.Generator().manual_seed(3)) - 1)
    assert len(factors.unique()) == 4
    adjust = getattr(vision, f"adjust_{kind}")
    same = torch.cat(
        [adjust(image[None], factor.item()) for image, factor in zip(x, factors, strict=True)]
    )
    # torchvision's weights of the colours have four digits
    torch.testing.assert_close(views, same, atol=2e-3, rtol=0)


def test_some_images_are_mirrored_and_parts_draw_as_the_whole_batch():
    x, views = colours(200), Views(flip=0.3, brightness=0.2)
    mirrored = (Views(flip=0.3)(x, torch.Generator().manual_seed(0)) != x).flatten(1).any(1)
    assert 0.2 < mirrored.float().mean() < 0.4
    assert torch.equal(Views(flip=1.0)(x, None), x.flip(-1))
    whole = views(x, torch.Generator().manual_seed(1))
    halves = [
        views(part, torch.Generator().manual_seed(1), i, 2) for i, part in enumerate(x.split(100))
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_views_without_colours_are_the_affine_ones():
    ranges = {"rotate": 20.0, "scale": 0.2}
    x = colours()
    first, second = (
        kind(**ranges)(x, torch.Generator().manual_seed(0)) for kind in (Affine, Views)
    )
    assert torch.equal(first, second)
    assert not Views()


def test_a_view_by_its_own_seed_depends_on_nothing_beside_it():
    augment = Views(rotate=20, translate=0.1, flip=0.5, brightness=0.3, contrast=0.3)
    x = images(5)
    views = augment.seeded(x, [3, 1, 4, 1, 5])
    torch.testing.assert_close(views[2:3], augment.seeded(x[2:3], [4]))
    assert not torch.allclose(views[0], augment.seeded(x[:1], [9])[0])
    same = images(1).expand(2, 1, 28, 28)
    alike = augment.seeded(same, [7, 7])
    assert torch.equal(alike[0], alike[1])
