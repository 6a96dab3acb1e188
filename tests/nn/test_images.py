"""Generators carry the element of the group to their images; critics do not see it; plain pairs."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lawful import InputError
from lawful.metrics.classifier import DigitClassifier
from lawful.nn.equivariant import GroupConv
from lawful.nn.images import ImageCritic, ImageGenerator, SymmetricCritic, SymmetricGenerator
from lawful.studies.histology import HistologyStudy
from lawful.studies.rotmnist import RotatedDigitsStudy
from lawful.symmetry.planar import Planar, planar
from lawful.symmetry.symmetrize import invariance_error

EXACT = ("C2", "C4", "D1", "D2", "D4")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
BATCH = 4


def generator(group, **changes):
    torch.manual_seed(0)
    settings = {"side": 8, "channels": 2, "widths": (4, 3), "start": 3, "noise": 5, "classes": 3}
    return strong(SymmetricGenerator(group, **(settings | {"embedding": 4} | changes)))


def critic(group, **changes):
    torch.manual_seed(0)
    settings = {"side": 8, "channels": 2, "widths": (3, 4), "features": 4, "kernel": 3}
    return strong(SymmetricCritic(group, **(settings | {"classes": 3} | changes)))


def strong(network):
    """Weights so large, and biases so unlike, that nothing is symmetric by being small."""
    for name, entry in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(entry)
        elif entry.ndim > 1:
            entry.data *= 2
    return network


def condition(order, dtype=torch.float64, size=5):
    random = torch.Generator().manual_seed(1)
    return {
        "noise": torch.randn(BATCH, size, generator=random, dtype=dtype),
        "label": torch.tensor([0, 1, 2, 1]),
        "element": torch.randint(order, (BATCH,), generator=random),
    }


def images(dtype=torch.float64):
    return torch.rand(BATCH, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=dtype)


def pose_errors(network, group, given):
    """g(z, y, τσ) against T_τ g(z, y, σ), for every τ, one and the same for the whole batch."""
    state = copy.deepcopy(network.state_dict())
    image, errors, changes = network(given).detach(), [], []
    for tau in range(group.order):
        network.load_state_dict(state)
        moved = network({**given, "element": group.table[tau][given["element"]]}).detach()
        errors.append(float((moved - group.act(image, tau)).abs().max() / image.abs().max()))
        changes.append(float((moved - image).abs().max()))
    return errors, changes


DESIGNS = {
    "batch": {"norm": "batch"},
    "pixel": {},
    "smooth": {"smooth": True, "injection": True, "widths": (4, 3, 2)},
    "residual": {"residual": True},
    "residual, all": {
        "residual": True,
        "norm": "batch",
        "smooth": True,
        "injection": True,
        "widths": (4, 3, 2),
    },
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("acting", EXACT)
def test_the_element_moves_the_image(acting, design):
    group = planar(acting)
    for dtype, tolerance in TOLERANCE.items():
        network = generator(group, **DESIGNS[design]).to(dtype)
        for training in (True, False):
            given = condition(group.order, dtype, network.latent)
            errors, changes = pose_errors(network.train(training), group, given)
            assert max(errors) <= tolerance, (dtype, training, errors)
            assert min(changes[1:]) > 1e-2


@pytest.mark.parametrize("acting", EXACT)
def test_an_element_on_the_output_moves_it_whatever_the_convolutions(acting):
    group = planar(acting)
    for options in ({}, DESIGNS["smooth"]):
        network = generator(Planar(1), poses=group, pose="output", **options).double()
        given = condition(group.order, size=network.latent)
        errors, changes = pose_errors(network, group, given)
        assert max(errors) <= 1e-12
        assert min(changes[1:]) > 1e-2


def test_plain_convolutions_do_not_carry_a_latent_element():
    group = planar("C4")
    network = generator(Planar(1), poses=group).double()
    assert min(pose_errors(network, group, condition(4))[0][1:]) > 1e-2


def test_without_a_pose_the_element_is_not_used():
    given = condition(4)
    network = generator(planar("C4"), pose="none").double()
    alone = network({name: given[name] for name in ("noise", "label")})
    assert torch.equal(network(given), alone)


def test_images_are_in_range_and_depend_on_noise_and_label():
    network, given = generator(planar("C4")).double(), condition(4)
    image = network(given).detach()
    assert image.shape == (BATCH, 2, 8, 8)
    assert 0 < float(image.min()) < float(image.max()) < 1
    for name, value in (("noise", -given["noise"]), ("label", 2 - given["label"])):
        changed = network({**given, name: value}).detach()
        assert float((changed - image)[[0, 2]].abs().amax((1, 2, 3)).min()) > 1e-2, name


def test_injected_noise_is_the_tail_of_the_latent_vector_and_local():
    """An entry of it reaches the pixels around its own; others are left as they are."""
    network = generator(
        planar("C4"), side=32, widths=(3, 3, 3), injection=True, smooth=True, pose="none"
    )
    network, given = network.double(), condition(4, size=5 + 16 * 16)
    image = network(given).detach()
    given["noise"][:, 5 + 16 * 7 + 3] += 1.0  # row 7, column 3 of 16
    changed = (network(given).detach() - image).abs().amax((0, 1)) > 1e-12
    rows, columns = changed.nonzero().unbind(1)
    assert 4 <= int(rows.min()) < 14 <= int(rows.max()) <= 24
    assert 0 <= int(columns.min()) < 6 <= int(columns.max()) <= 16
    with pytest.raises(InputError, match="noise: expected 261 entries, got 260"):
        network({**given, "noise": given["noise"][:, 1:]})


@torch.no_grad()
def test_a_critic_of_bright_images_keeps_its_scale_through_its_depth():
    """Features of images of noise are as large as the images; the papers' weights lose them."""
    x = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    spread = {}
    for bright in (True, False):
        torch.manual_seed(0)
        judge = SymmetricCritic(
            planar("D4"), side=64, channels=3, widths=(5, 5, 10, 10), features=10, kernel=3,
            classes=1, bright=bright,
        )  # fmt: skip
        spread[bright] = float(judge.features(x).std(0).mean())
    assert spread[True] > 10 * spread[False], spread


def test_one_class_needs_no_label():
    network, judge = (make(planar("C4"), classes=1).double() for make in (generator, critic))
    given = {name: value for name, value in condition(4).items() if name != "label"}
    assert judge(network(given), given).shape == (BATCH,)


def scores(network, given):
    """Scores from one and the same state."""
    state = copy.deepcopy(network.state_dict())

    def call(x):
        network.load_state_dict(state)
        return network(x, given)

    return call


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"spectral": True},
        {"residual": True},
        {"residual": True, "spectral": True},
        {"kernel": 0},
        {"bright": True},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
@pytest.mark.parametrize("acting", EXACT)
def test_critics_are_invariant(acting, options):
    group = planar(acting)
    for dtype, tolerance in TOLERANCE.items():
        network, given = critic(group, **options).to(dtype), condition(1, dtype)
        for training in (True, False):
            judge = scores(network.train(training), given)
            errors = invariance_error(judge, images(dtype), group)
            assert float(errors.max()) <= tolerance, (dtype, training, errors)


@torch.no_grad()
def test_critics_see_images_labels_and_poses_of_other_groups():
    given, x = condition(1), images()
    network = critic(planar("C4")).double()
    score = network(x, given)
    assert float((score - network(x, {"label": 2 - given["label"]}))[[0, 2]].abs().min()) > 1e-3
    assert float((score - network(x.flip(0), given)).abs().min()) > 1e-3
    for own, other in (("C4", "D4"), ("C1", "C4")):
        judge = scores(critic(planar(own)).double(), given)
        assert float(invariance_error(judge, x, planar(other)).max()) > 1e-3


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("acting", ["C4", "D4"])
def test_training_leaves_the_symmetry(acting, residual):
    group = planar(acting)
    network = generator(group, residual=residual, norm="batch").double()
    judge = critic(group, residual=residual, spectral=True).double()
    optimizers = [torch.optim.Adam(player.parameters(), 0.02) for player in (network, judge)]
    given, before = condition(group.order), copy.deepcopy(network.state_dict())
    for _ in range(5):
        for optimizer, sign in zip(optimizers, (1, -1), strict=True):
            fake, real = judge(network(given), given), judge(images(), given)
            optimizer.zero_grad()
            F.softplus(sign * (real - fake)).mean().backward()
            optimizer.step()
    assert float((network.state_dict()["lift.weight"] - before["lift.weight"]).abs().max()) > 0.01
    for player in (network, judge):
        player.eval()
    assert max(pose_errors(network, group, given)[0]) <= 1e-12
    assert float(invariance_error(scores(judge, given), images(), group).max()) <= 1e-12


def parameters(study):
    return {k: sum(p.numel() for p in v.parameters()) for k, v in study.players().items()}


@pytest.mark.parametrize(
    ("study", "acting", "player"),
    [
        (RotatedDigitsStudy, "C4", "generator"),
        (RotatedDigitsStudy, "C4", "critic"),
        (RotatedDigitsStudy, "C8", "generator"),
        (RotatedDigitsStudy, "C8", "critic"),
        (HistologyStudy, "D4", "generator"),
        (HistologyStudy, "D4", "critic"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("preset", ["quick", "full"])
def test_compared_designs_have_nearly_as_many_parameters(study, acting, player, preset):
    symmetric = replace(study.presets()[preset], group=acting)
    plain = replace(symmetric, generator="plain", pose="none", critic="plain")
    ours, theirs = parameters(symmetric)[player], parameters(plain)[player]
    assert abs(ours / theirs - 1) <= 0.05, (ours, theirs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SymmetricGenerator(planar("C4"), side=30, widths=(2, 2, 2)),
         "generator: side 30 is not a multiple of 4, which 3 resolutions need"),
        (lambda: SymmetricGenerator(planar("C4"), side=0), "generator: side 0"),
        (lambda: SymmetricCritic(planar("C4"), side=28, widths=(2, 2, 2, 2), kernel=3),
         "critic: side 28 cannot be halved 3 times"),
        (lambda: SymmetricCritic(planar("C4"), side=30, widths=(2, 2, 2)), "side 30"),
        (lambda: SymmetricCritic(planar("C4"), side=24), "still hold 7 pixels"),
        (lambda: critic(planar("C4"))(torch.zeros(1, 2, 6, 8), {}), "got 6 x 8"),
        (lambda: critic(planar("C4"))(torch.zeros(1, 2, 7, 7), {}), "7 x 7 pixels; halving"),
    ],
)  # fmt: skip
def test_refusals(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_critic_keeps_every_pixel():
    """28 pixels are halved twice; what is left, 7 x 7, is the size of one filter."""
    network = SymmetricCritic(planar("C4"), widths=(2, 2, 2), features=2, classes=1)
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    network(x, {}).sum().backward()
    assert isinstance(network.last, GroupConv)
    assert bool((x.grad[0, 0, [0, -1]].abs().amax(1) > 0).all())
    assert bool((x.grad[0, 0, :, [0, -1]].abs().amax(0) > 0).all())


def test_generators_give_grey_levels_and_depend_on_the_noise_alone():
    torch.manual_seed(0)
    generator = ImageGenerator(28, noise=8, width=8)
    noise = torch.randn(5, 8)
    images = generator({"noise": noise}).detach()
    assert images.shape == (5, 1, 28, 28)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    torch.testing.assert_close(generator({"noise": noise[2:3]}), images[2:3], atol=1e-6, rtol=0)
    assert float((images[0] - images[1]).abs().max()) > 1e-3


def test_critics_score_every_image_by_itself():
    torch.manual_seed(0)
    critic = ImageCritic(28, width=8)
    images = torch.rand(4, 1, 28, 28)
    scores = critic(images, {})
    assert scores.shape == (4,)
    torch.testing.assert_close(critic(images[1:2], {}), scores[1:2], atol=1e-6, rtol=0)


def test_the_judge_sees_poses():
    """Features that were invariant would hide a lost pose."""
    torch.manual_seed(0)
    judge = DigitClassifier().eval()
    image = torch.rand(2, 1, 28, 28)
    assert judge.features(image).shape == (2, 64)
    turned = judge.features(image.rot90(1, (2, 3)))
    assert float((judge.features(image) - turned).detach().norm()) > 1e-2
    total = judge.probabilities(image).sum(1)
    torch.testing.assert_close(total, torch.ones(2))
    assert judge({"image": image}).shape == image.shape


@pytest.mark.parametrize("kind", [ImageGenerator, ImageCritic])
def test_sides_that_do_not_halve_twice_are_refused(kind):
    with pytest.raises(InputError, match="side divisible by 4, got 30"):
        kind(30)
