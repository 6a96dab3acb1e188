"""Layers commute with the group, in every mode; exported they are ordinary convolutions."""

import copy
from functools import partial
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from lawful import InputError
from lawful.nn.blocks import Modulation, ResidualBlock, RMSNorm, pixel_norm
from lawful.nn.equivariant import (
    FieldNorm,
    GroupConv,
    LiftingConv,
    LoweringConv,
    down,
    export,
    pool_group,
    up,
)
from lawful.nn.images import SymmetricCritic, SymmetricGenerator
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import Symmetrized, equivariance_error, invariance_error

EXACT = ("C1", "C2", "C4", "D1", "D2", "D4")
EXPORTED = ("C4", "D4", "C8", "C12")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
EMBEDDING = torch.randn(2, 5, generator=torch.Generator().manual_seed(9))


class Function(nn.Module):
    """A function, or a layer that is given an embedding too."""

    def __init__(self, function, embedded=False):
        super().__init__()
        self.function, self.embedded = function, embedded

    def forward(self, x):
        return self.function(x, EMBEDDING.to(x)) if self.embedded else self.function(x)


def residual(group, inputs, outputs, embedding=0, *, spectral=False, first=False):
    conv = partial(GroupConv, group, spectral=spectral)
    norm = pixel_norm if embedding else None
    return ResidualBlock(inputs, outputs, embedding, conv=conv, norm=norm, first=first)


LAYERS = {
    "lifting": lambda g: LiftingConv(g, 3, 2),
    "lifting, spectral": lambda g: LiftingConv(g, 3, 2, spectral=True),
    "conv 1": lambda g: GroupConv(g, 3, 2, 1),
    "conv 3": lambda g: GroupConv(g, 3, 2),
    "conv 5": lambda g: GroupConv(g, 3, 2, 5),
    "conv, valid": lambda g: GroupConv(g, 3, 2, 3, valid=True),
    "conv, spectral": lambda g: GroupConv(g, 3, 2, spectral=True),
    "lowering": lambda g: LoweringConv(g, 3, 2),
    "lowering, spectral": lambda g: LoweringConv(g, 3, 2, spectral=True),
    "field norm": lambda g: FieldNorm(3),
    "pixel norm": lambda g: RMSNorm(),
    "modulation": lambda g: Function(Modulation(3, 5), embedded=True),
    "group max": lambda g: Function(pool_group),
    "down": lambda g: Function(down),
    "up": lambda g: Function(up),
    "up, smoothly": lambda g: Function(lambda x: up(x, smooth=True)),
    "residual": lambda g: residual(g, 3, 2),
    "residual, same width": lambda g: residual(g, 3, 3, spectral=True),
    "residual, modulated": lambda g: Function(residual(g, 3, 3, 5), True),
    "residual, wider": lambda g: Function(residual(g, 3, 2, 5), True),
    "residual, modulated first": lambda g: Function(residual(g, 3, 2, 5, first=True), True),
}


def randomised(module):
    """Biases are no longer zero, norms no longer fresh."""
    for entry in (*module.parameters(), *module.buffers()):
        if entry.ndim == 1 and entry.is_floating_point():
            nn.init.uniform_(entry, 0.1, 1.0)
    return module


def layer(name, group):
    torch.manual_seed(0)
    return randomised(LAYERS[name](group))


def sides(group):
    """Rows and columns differ where the group allows."""
    return (6, 6) if group.turns > 2 else (4, 6)


def example(name, group, dtype=torch.float64, seed=1):
    random = torch.Generator().manual_seed(seed)
    fields = () if name.startswith("lifting") else (group.order,)
    return torch.randn(2, 3, *fields, *sides(group), dtype=dtype, generator=random)


def repeatable(module):
    """Every call from the same state: running statistics and the power iteration go on else."""
    state = copy.deepcopy(module.state_dict())

    def call(x):
        module.load_state_dict(state)
        return module(x)

    return call


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("acting", EXACT)
def test_every_layer_commutes_with_every_exact_group(acting, name):
    group = planar(acting)
    for dtype, tolerance in TOLERANCE.items():
        module, x = layer(name, group).to(dtype), example(name, group, dtype)
        images, fields = group, group.fields()
        onto = images if name.startswith(("lowering", "group")) else fields
        source = images if name.startswith("lifting") else fields
        for training in (True, False):
            errors = equivariance_error(repeatable(module.train(training)), x, source, onto)
            assert float(errors.max()) <= tolerance, (dtype, training, errors)


@pytest.mark.parametrize("acting", ["C2", "C4", "D1", "D4"])
def test_an_ordinary_convolution_does_not_commute(acting):
    group = planar(acting)
    x = example("lifting", group)
    assert invariance_error(nn.Conv2d(3, 2, 3).double(), x, group)[1:].min() > 0.1


def test_the_trivial_group_gives_the_ordinary_convolution():
    for kind, name in ((LiftingConv, "lifting"), (GroupConv, "conv"), (LoweringConv, "lowering")):
        module = randomised(kind(planar("C1"), 3, 2, 5)).double()
        x = example(name, planar("C1"))
        x4 = x if name == "lifting" else x.squeeze(2)
        plain = F.conv2d(x4, module.weight.reshape(2, 3, 5, 5), module.bias, padding=2)
        y = module(x) if name == "lowering" else module(x).squeeze(2)
        torch.testing.assert_close(y, plain, rtol=0, atol=1e-13)


def correlate(x, w):
    """One channel with one filter, zero outside, by its definition."""
    reach = w.shape[-1] // 2
    padded, (rows, columns) = F.pad(x, 4 * [reach]), x.shape[-2:]
    places = [(i, j) for i in range(len(w)) for j in range(len(w))]
    return sum(w[i, j] * padded[..., i : i + rows, j : j + columns] for i, j in places)


@pytest.mark.parametrize("acting", EXACT)
@pytest.mark.parametrize("size", [3, 5])
def test_convolutions_are_their_formulas(acting, size):
    group = planar(acting)
    order, elements = group.order, range(group.order)
    turned = lambda w, g: group.act(w[None, None], g)[0, 0]  # noqa: E731
    conv, lift = (randomised(k(group, 2, 2, size)).double() for k in (GroupConv, LiftingConv))
    lower = randomised(LoweringConv(group, 2, 2, size)).double()
    x = torch.randn(2, 2, order, *sides(group), dtype=torch.float64)
    bank = conv.weight.detach().reshape(2, 2, order, size, size)
    lifted, lowered = (m.weight.detach().reshape(2, 2, size, size) for m in (lift, lower))
    for o in range(2):
        for g in elements:
            back = group.table[group.inverse[g]]
            expected = conv.bias[o] + sum(
                correlate(x[:, i, h], turned(bank[o, i, back[h]], g))
                for i in range(2) for h in elements
            )  # fmt: skip
            torch.testing.assert_close(conv(x)[:, o, g], expected, rtol=0, atol=1e-12)
            expected = lift.bias[o] + sum(
                correlate(x[:, i, 0], turned(lifted[o, i], g)) for i in range(2)
            )
            torch.testing.assert_close(lift(x[:, :, 0])[:, o, g], expected, rtol=0, atol=1e-12)
        expected = lower.bias[o] + sum(
            correlate(x[:, i, h], turned(lowered[o, i], h)) for i in range(2) for h in elements
        )
        torch.testing.assert_close(lower(x)[:, o], expected, rtol=0, atol=1e-12)


def test_norms_and_modulation_do_what_they_say():
    x = 3 * torch.randn(2, 3, 4, 6, 6, dtype=torch.float64) + 2
    squares = RMSNorm()(x).square().mean((1, 2))
    torch.testing.assert_close(squares, torch.ones_like(squares), rtol=0, atol=1e-4)
    y = FieldNorm(3).double()(x)
    assert y.mean((0, 2, 3, 4)).abs().max() < 1e-12
    torch.testing.assert_close(
        y.square().mean((0, 2, 3, 4)), torch.ones(3).double(), rtol=1e-4, atol=0
    )
    modulation = Modulation(3, 5).double()
    gain, shift = nn.Linear.forward(modulation, EMBEDDING.double())[..., None, None, None].chunk(
        2, 1
    )
    expected = (1 + gain) * x + shift
    torch.testing.assert_close(modulation(x, EMBEDDING.double()), expected, rtol=0, atol=1e-13)


# Exported


def exported(network):
    network.train()
    plain = export(network)
    assert network.training
    assert all(part.training for part in network.modules())
    assert not plain.training
    assert not any(isinstance(part, GroupConv) for part in plain.modules())
    return plain


@pytest.mark.parametrize("name", [name for name in LAYERS if "conv" in name or "ing" in name])
@pytest.mark.parametrize("acting", EXPORTED)
@torch.no_grad()
def test_exported_layers_are_the_same_to_the_bit(acting, name):
    group = planar(acting)
    for dtype in TOLERANCE:
        module, x = layer(name, group).to(dtype), example(name, group, dtype)
        for _ in range(3):
            module(x)
        plain = exported(module)
        if isinstance(module, GroupConv):
            assert torch.equal(module.export()(x), plain(x))
            assert module.training
        assert torch.equal(plain(x), module.eval()(x))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("acting", EXPORTED)
@torch.no_grad()
def test_exported_players_are_the_same_to_the_bit(acting, residual):
    torch.manual_seed(0)
    group, label = planar(acting), torch.tensor([0, 1, 2])
    generator = SymmetricGenerator(
        group, side=8, widths=(3, 2), start=2, noise=4, classes=3, embedding=4, norm="batch",
        residual=residual,
    )  # fmt: skip
    randomised(generator)
    condition = {"noise": torch.randn(3, 4), "label": label, "element": label}
    images = exported(generator)(condition)
    assert torch.equal(images, generator.eval()(condition))
    for spectral in (False, True):
        critic = SymmetricCritic(
            group, side=8, widths=(2, 3), features=2, kernel=3, classes=3, residual=residual,
            spectral=spectral,
        )  # fmt: skip
        randomised(critic)(images, condition)
        scores = exported(critic)(images, condition)
        assert torch.equal(scores, critic.eval()(images, condition))


@torch.no_grad()
def test_a_layer_in_two_places_is_exported_in_both():
    shared = randomised(GroupConv(planar("C4"), 2, 2))
    network, x = nn.Sequential(shared, shared), torch.randn(1, 2, 4, 5, 5)
    assert torch.equal(exported(network)(x), network.eval()(x))


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv, LoweringConv])
@pytest.mark.parametrize("acting", ["C1", "C4", "D4"])
def test_filters_start_as_those_of_the_ordinary_convolution(kind, acting):
    """Uniform up to one over the root of the moved filters' inputs."""
    torch.manual_seed(0)
    moved = kind(planar(acting), 6, 12, 5).expanded().detach()
    plain = nn.Conv2d(moved.shape[1], len(moved), 5).weight.detach()
    for size in (lambda w: w.abs().max(), torch.std):
        assert float(size(moved) / size(plain)) == pytest.approx(1, abs=0.05)


def test_layers_show_their_groups_and_sizes():
    shown = repr(nn.Sequential(GroupConv(planar("D4"), 3, 5, 7, spectral=True), export(
        LiftingConv(planar("C4"), 1, 2))))  # fmt: skip
    assert "GroupConv(D4, 3 to 5, 7 x 7, padding 3, spectral)" in shown
    generator = repr(SymmetricGenerator(planar("C4"), side=8, widths=(3, 2), pose="output"))
    assert "C4, poses of C4 on the output" in generator
    assert "GroupConv(C4, 2 to 1, 3 x 3, padding 1, lowers)" in generator
    assert repr(Symmetrized(abs, planar("C2"))).count("C2") == 2


# Gradients


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv, LoweringConv])
@pytest.mark.parametrize("acting", ["C4", "D1", "C12"])
def test_gradients_of_gradients(acting, kind):
    group = planar(acting)
    torch.manual_seed(0)
    module = randomised(kind(group, 1, 1)).double()
    fields = () if kind is LiftingConv else (group.order,)
    x = torch.randn(1, 1, *fields, 2, 2, dtype=torch.float64, requires_grad=True)
    names = ("weight", "bias")
    weights = [getattr(module, name).detach().requires_grad_() for name in names]

    def call(x, *weights):
        return functional_call(module, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, [x, *weights])
    # Linear in each argument: pairs of them have mixed second derivatives.
    assert torch.autograd.gradgradcheck(call, [x, *weights])


def test_gradients_of_a_spectral_critics_gradient():
    torch.manual_seed(0)
    module = nn.Sequential(
        LiftingConv(planar("C4"), 1, 1, spectral=True), nn.Softplus(),
        GroupConv(planar("C4"), 1, 1, spectral=True), nn.Softplus(),
    ).double().eval()  # fmt: skip
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, [x])


def test_dividing_by_the_norm_is_part_of_the_gradient():
    """A multiple of the weights has the same outputs, so the slope along the weights is zero."""
    torch.manual_seed(0)
    module = GroupConv(planar("C4"), 2, 3, spectral=True).double()
    x = example("conv", planar("C4"))[:, :2]
    (module(x).sin().sum() + module(2 * x).sin().sum()).backward()  # two passes, one backward
    slope = module.weight.grad
    assert float(slope.norm()) > 1e-2
    assert abs(float((slope * module.weight.detach()).sum())) < 1e-9 * float(slope.norm())


# Spectral norm


def largest(matrix):
    return float(torch.linalg.matrix_norm(matrix.flatten(1), 2).detach())


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv, LoweringConv])
@pytest.mark.parametrize("acting", ["C1", "C4", "D2", "D4", "C12"])
@torch.no_grad()
def test_the_moved_filters_have_norm_one(acting, kind):
    group = planar(acting)
    fields = () if kind is LiftingConv else (group.order,)
    for seed in (0, 3):
        torch.manual_seed(seed)
        module = kind(group, 3, 4, spectral=True, valid=True).double()
        assert largest(module.expanded()) != pytest.approx(1, abs=1e-2)
        for _ in range(300):
            module(torch.zeros(1, 3, *fields, 3, 3, dtype=torch.float64))
        assert largest(module.expanded()) == pytest.approx(1, abs=1e-4)
        assert largest(module.eval().expanded()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("acting", ["C2", "C4", "D4", "C12"])
def test_the_stored_filters_understate_the_norm(acting):
    group = planar(acting)
    torch.manual_seed(0)
    module = GroupConv(group, 2, 3).double()
    ratio = largest(module.expanded()) / largest(module.weight)
    assert 1 - 1e-9 <= ratio < sqrt(group.order)
    nn.init.constant_(module.weight, 0.3)  # the worst of all
    ratio = largest(module.expanded()) / largest(module.weight)
    assert ratio == pytest.approx(sqrt(group.order))


def test_every_convolution_of_a_spectral_critic_is_held():
    for residual in (False, True):
        critic = SymmetricCritic(
            planar("C4"), side=8, widths=(2, 3), kernel=3, residual=residual, spectral=True
        )
        assert all(part.spectral for part in critic.modules() if isinstance(part, GroupConv))


# State


@pytest.mark.parametrize("acting", ["C4", "C12"])
@torch.no_grad()
def test_what_is_saved_is_what_is_learned(acting):
    group = planar(acting)
    first, second = (randomised(GroupConv(group, 3, 2, spectral=True)) for _ in range(2))
    x = example("conv", group, torch.float32)
    assert set(first.state_dict()) == {"weight", "bias", "left"}
    assert not torch.equal(second.eval()(x), first.eval()(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), first(x))


@given(st.sampled_from([*EXACT, "C8", "D8"]), st.integers(1, 4), st.integers(1, 4),
       st.sampled_from([1, 3, 5]))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_rows_of_the_moved_filters_are_one_another_permuted(acting, inputs, outputs, size):
    group = planar(acting)
    torch.manual_seed(inputs + 5 * outputs)
    for kind in (GroupConv, LiftingConv):
        module = kind(group, inputs, outputs, size).double()
        rows = module.expanded().detach().reshape(outputs, group.order, -1)
        squares = rows.square().sum(2)
        torch.testing.assert_close(squares, squares[:, :1].expand_as(squares))
        assert torch.equal(rows.sort(2).values, module.weight.detach()[:, None].sort(2).values
                           .expand_as(rows))  # fmt: skip


# Odd sides, finer rotations, memory


def test_odd_sides_are_not_halved():
    x = torch.zeros(1, 2, 4, 28, 28)
    with pytest.raises(InputError, match="7 x 7 pixels; halving an odd side breaks the symmetry"):
        down(down(down(x)))
    with pytest.raises(InputError, match="4 x 7"):
        down(x[..., :4, :7])


def test_halving_seven_pixels_would_cost_the_invariance():
    group = planar("C4")
    torch.manual_seed(0)
    lift, conv = LiftingConv(group, 1, 8).double(), GroupConv(group, 8, 8).double()
    cut = lambda h: F.avg_pool2d(h.flatten(1, 2), 2).unflatten(1, h.shape[1:3])  # noqa: E731
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64)

    def features(x, last):
        return pool_group(last(conv(down(down(lift(x)).relu())).relu())).mean((2, 3))

    kept = invariance_error(lambda x: features(x, lambda h: h), x, group)
    lost = invariance_error(lambda x: features(x, cut), x, group)
    assert float(kept.max()) <= 1e-12
    assert 0.01 < float(lost.max()) < 0.2
    assert float(lost[0]) == 0.0


def smooth_fields(group, side=33):
    """Sums of wide bumps inside a disc."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    place = 0.2 * torch.randn(2, 4, group.order, 1, 1, dtype=torch.float64)
    square = (line[:, None] - place[0]).square() + (line - place[1]).square()
    disc = (1 - (line[:, None].square() + line.square()) / 0.64).clamp_min(0).square()
    return (torch.randn_like(place[0]) * (-6 * square).exp() * disc)[None]


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv, LoweringConv])
@pytest.mark.parametrize("acting", ["C8", "D8", "C12"])
def test_finer_rotations_are_approximate_and_say_so(acting, kind):
    """Off by about a tenth, by interpolation; quarter turns stay exact."""
    group = planar(acting)
    assert not group.exact
    torch.manual_seed(0)
    x = smooth_fields(group)
    x = x[:, :, 0] if kind is LiftingConv else x
    source = group if kind is LiftingConv else group.fields()
    onto = group if kind is LoweringConv else group.fields()
    turns = torch.arange(group.order) % (group.turns // 4) == 0
    for size in (3, 5):
        errors = equivariance_error(kind(group, 4, 8, size).double(), x, source, onto)
        assert float(errors[turns].max()) <= 1e-12
        assert float(errors[~turns].min()) > 1e-3
        assert float(errors[~turns].max()) < 0.2


@pytest.mark.parametrize("name", ["conv 3", "conv 1", "lowering", "lifting", "residual, wider",
                                  "modulation", "field norm"])  # fmt: skip
def test_the_order_of_memory_changes_no_number(name):
    group = planar("D4")
    module, x = layer(name, group).double(), example(name, group)
    flat = x if name == "lifting" else x.flatten(1, 2)
    last = flat.contiguous(memory_format=torch.channels_last).reshape(x.shape)
    assert last.stride() != x.stride()
    torch.testing.assert_close(module(last), module(x), rtol=0, atol=1e-12)


def test_images_stay_channels_last_from_layer_to_layer():
    h = LiftingConv(planar("C4"), 1, 3)(torch.rand(2, 1, 8, 8))
    modulated = Modulation(3, 5)(RMSNorm()(GroupConv(planar("C4"), 3, 3)(up(h))), EMBEDDING)
    for x in (h, modulated):
        assert x.flatten(1, 2).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GroupConv(planar("C4"), 1, 1, 4), "filter: expected an odd size, got 4"),
        (lambda: LiftingConv(planar("C4"), 1, 1)(torch.zeros(1, 1, 4, 6)), "got 4 x 6"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(InputError, match=words):
        make()
