"""The microstructure study in little: training, sampling, honesty, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from safetensors.torch import load_file

from lawful import InputError
from lawful.materials import dataset
from lawful.materials.compare import chosen, likeness
from lawful.materials.images import read_micrograph
from lawful.materials.statistics import RADII, correlation_map, mean_pairwise_overlap, two_point
from lawful.materials.targets import TrainedTargets, at_fraction
from lawful.model import load
from lawful.run import checkpoints, history, train
from lawful.studies.microstructure import MicrostructureStudy, drawn_images, drawn_targets
from lawful.studies.microstructure_table import (
    microstructure_result,
    morphology_records,
    records,
    unlearned,
)
from lawful.study import Training, enforceable
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import equivariance_error, invariance_error

IMAGES = 64


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """The small set is smaller here."""
    usual, dataset.SMALL = dataset.SMALL, IMAGES
    dataset.open_set.cache_clear()
    yield
    dataset.SMALL = usual
    dataset.open_set.cache_clear()


def study(**changes):
    return replace(MicrostructureStudy.presets()["smoke"], **changes)


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def run(entry, folder, **options):
    for _ in train(entry, folder, fabric(), **options):
        pass
    return load(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return run(study(), tmp_path_factory.mktemp("smoke") / "run")


def statistics(part="held_out", count=6):
    found = dataset.open_set("small")[part == "held_out"].statistics
    return found["volume_fraction"][:count], found["two_point"][:count]


def rms(found, target):
    return np.sqrt(np.square(np.asarray(found) - np.asarray(target)).mean(1))


def exactly_counted(samples):
    x, phi = samples.fields, samples.condition["volume_fraction"].double()
    side = x.shape[-1]
    assert bool(((x == 0) | (x == 1)).all())
    assert torch.equal(x.double().sum((1, 2, 3)), (phi * side**2).round())
    violation = samples.report.line("volume fraction").violation
    assert float(violation.max()) <= 1 / side**2


def test_the_smoke_preset_trains_and_its_manifest_says_on_what(model):
    assert model.manifest["preset"] == "smoke"
    assert model.manifest["steps"] == 20
    assert "Cahn-Hilliard images of 64 x 64" in model.manifest["data"]["images"]
    laws = {entry["law"]: entry["violation"]["mean"] for entry in model.manifest["quality"]["laws"]}
    assert laws["volume fraction"] <= 1 / 64**2
    assert 0 < laws["two-point correlation"] < 2e-2
    rows = history(model.folder)
    assert len(rows) >= 2
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def test_training_moves_every_weight(model):
    torch.manual_seed(model.study.training.seed)
    fresh = model.study.network().state_dict()
    for name, value in model.network.state_dict().items():
        if not name.startswith("bank."):
            assert not torch.equal(value, fresh[name]), name


def test_an_interrupted_run_ends_bit_for_bit_the_same(tmp_path):
    entry = study(training=Training(6, 4, 1e-3, average=0.9, checkpoint=2))
    run(entry, tmp_path / "whole")
    for progress in train(entry, tmp_path / "cut", fabric()):
        if progress.step == 3:  # a step after the checkpoint
            break
    assert [int(path.stem) for path in checkpoints(tmp_path / "cut")] == [2]
    torch.manual_seed(77)
    run(entry, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name


def test_samples_are_binary_counted_and_seeded(model):
    samples = model.sample(10, seed=3)
    assert samples.fields.shape == (10, 1, 64, 64)
    assert samples.fields.dtype == torch.float32
    exactly_counted(samples)
    assert set(samples.condition) == {"volume_fraction", "two_point"}
    again, other = model.sample(10, seed=3), model.sample(10, seed=4)
    assert torch.equal(samples.fields, again.fields)
    assert torch.equal(samples.condition["two_point"], again.condition["two_point"])
    assert not torch.equal(samples.fields, other.fields)
    assert len(samples.fields.unique(dim=0)) == 10


def test_the_report_is_what_independent_code_finds(model):
    samples = model.sample(8)
    found = two_point(samples.fields[:, 0] > 0.5)
    off = rms(found, samples.condition["two_point"])
    line = samples.report.line("two-point correlation")
    np.testing.assert_allclose(line.violation, off, atol=1e-6)
    np.testing.assert_allclose(
        line.worst, np.abs(found.numpy() - samples.condition["two_point"].numpy()).max(1), atol=1e-6
    )


def test_one_target_gives_many_samples(model):
    phi, curve = statistics(count=1)
    samples = model.sample(5, volume_fraction=phi, two_point=curve)
    assert torch.equal(samples.condition["two_point"], curve.expand(5, -1))
    assert mean_pairwise_overlap(samples.fields[:, 0]) < 0.6
    exactly_counted(samples)


def test_a_fraction_alone_takes_a_trained_correlation_of_its_own(model):
    phi = torch.tensor([0.35, 0.5, 0.65])
    samples = model.sample(volume_fraction=phi)
    assert torch.equal(samples.condition["volume_fraction"], phi)
    torch.testing.assert_close(samples.condition["two_point"][:, 0], phi, rtol=0, atol=1e-6)
    exactly_counted(samples)
    outside = dict(samples.report.outside)
    assert outside["volume_fraction"].tolist() == [False] * 3
    assert outside["two_point"].tolist() == [False] * 3


def test_a_correlation_alone_has_its_fraction_at_zero(model):
    _, curve = statistics()
    samples = model.sample(two_point=curve)
    assert torch.equal(samples.condition["volume_fraction"], curve[:, 0])
    assert torch.equal(samples.condition["two_point"], curve)
    exactly_counted(samples)
    both = model.sample(two_point=curve, volume_fraction=curve[:, 0])
    assert torch.equal(both.fields, samples.fields)


@pytest.mark.parametrize("phi", [0.05, 0.25, 0.75, 0.9])
def test_any_fraction_alone_can_be_asked_for(model, phi):
    """Trained correlations, scaled to a thin phase, must stay those of a medium."""
    samples = model.sample(24, volume_fraction=phi)
    exactly_counted(samples)
    assert bool(
        (dict(samples.report.outside)["volume_fraction"] == (phi not in (0.25, 0.75))).all()
    )


@pytest.mark.parametrize("size", [96, 128])
def test_other_sizes_from_the_same_weights(model, size):
    phi, curve = statistics(count=2)
    samples = model.resized(size).sample(2, volume_fraction=phi, two_point=curve)
    assert samples.fields.shape == (2, 1, size, size)
    exactly_counted(samples)
    off = rms(two_point(samples.fields[:, 0] > 0.5), curve)
    np.testing.assert_allclose(
        samples.report.line("two-point correlation").violation, off, atol=1e-6
    )
    assert off.max() < 2e-2
    with pytest.raises(InputError, match=f"side: expected a multiple of 4.*{size + 1}"):
        model.resized(size + 1)
    with pytest.raises(InputError, match="from 64 to 1024, got 32"):
        model.resized(32)


@pytest.mark.parametrize("tolerance", [1e-3, 2e-4])
def test_a_tolerance_is_reached_or_said_not_to_be(model, tolerance):
    phi, curve = statistics()
    raw = model.sample(6, volume_fraction=phi, two_point=curve)
    samples = model.sample(6, volume_fraction=phi, two_point=curve, tolerance=tolerance)
    exactly_counted(samples)
    off = rms(two_point(samples.fields[:, 0] > 0.5), curve)
    done = samples.report.projection
    clear = np.abs(off - tolerance) > 1e-6
    np.testing.assert_array_equal(done.reached.numpy()[clear], (off <= tolerance)[clear])
    before = raw.report.line("two-point correlation").violation
    torch.testing.assert_close(done.raw, before, rtol=0, atol=1e-6)
    assert bool((torch.as_tensor(off) <= before + 1e-6).all())
    changed = (samples.fields != raw.fields).float().mean((1, 2, 3))
    torch.testing.assert_close(done.displacement, changed, rtol=0, atol=1e-6)
    if tolerance == 1e-3:
        assert float(done.reached.float().mean()) >= 0.8
        assert float(changed.max()) < 0.25


def test_targets_that_no_medium_has_are_refused(model):
    phi, curve = (value[0] for value in statistics(count=1))
    for given_, said in (
        ({"volume_fraction": 0.0}, "0 < volume fraction < 1"),
        ({"volume_fraction": -0.2}, "volume_fraction: expected at least 0, got -0.2"),
        ({"volume_fraction": phi + 0.1, "two_point": curve}, r"p2\(0\) is the volume fraction"),
        ({"two_point": curve.where(torch.arange(RADII) != 4, phi + 0.05)}, "at most the volume"),
        ({"two_point": 0.25 + 0.25 * (torch.arange(RADII) < 10)}, "triangle inequality"),
        ({"two_point": curve[:20]}, "two_point: expected 32 per sample, got 20"),
        ({"two_point": curve * torch.nan}, "finite"),
    ):
        with pytest.raises(InputError, match=said) as error:
            model.sample(1, **given_)
        assert "\n" not in str(error.value)


def test_a_target_far_from_the_trained_ones_is_marked(model):
    phi, curve = statistics("train")
    far = 0.25 + 0.25 * torch.exp(-torch.arange(RADII) / 0.7)  # nearly independent pixels
    samples = model.sample(7, two_point=torch.cat([curve, far[None]]))
    outside = dict(samples.report.outside)
    assert outside["two_point"].tolist() == [False] * 6 + [True]
    assert outside["volume_fraction"].tolist() == [False] * 7
    thin = 0.01 + 0.09 * torch.exp(-torch.arange(RADII) / 4.0)
    outside = dict(model.sample(1, two_point=thin).report.outside)
    assert outside["volume_fraction"].tolist() == [True]
    assert float(phi.min()) >= 0.25


def test_the_network_has_no_say_beyond_its_training(model):
    phi = torch.tensor([0.3])
    far = phi**2 + phi * (1 - phi) * torch.exp(-torch.arange(RADII).float() / 3)[None]
    near = dict(zip(("volume_fraction", "two_point"), statistics("train", 1), strict=True))
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(1))
    for target, trusted in (({"volume_fraction": phi, "two_point": far}, False), (near, True)):
        c = target | {"noise": noise}
        with torch.no_grad():
            equal = torch.equal(model.network(c), unlearned(model.network, c))
        assert equal != trusted


def test_held_out_targets_of_the_same_kind_are_not_marked(model):
    """Not each of them, that is: one in two hundred is what the distance is set to."""
    phi, curve = statistics(count=16)
    outside = dict(model.sample(len(phi), two_point=curve).report.outside)
    assert float(outside["two_point"].float().mean()) <= 0.5


def picture(path, side=96, seed=0):
    """A blurred random field in two greys, for which no periodicity holds."""
    noise = np.random.default_rng(seed).normal(size=(side + 16, side + 16))
    for axis in (0, 1):
        for _ in range(3):
            noise = sum(np.roll(noise, k, axis) for k in range(-2, 3)) / 5
    image = noise[8:-8, 8:-8] > 0.02
    np.save(path, image.astype(np.uint8) * 200)
    return image


def test_the_law_alone_trains_towards_a_picture_without_data(tmp_path, monkeypatch):
    image = picture(tmp_path / "target.npy")
    place = "lawful.studies.microstructure.open_set"
    monkeypatch.setattr(place, lambda name: pytest.fail("data were asked for"))
    entry = study(objective="law", target=str(tmp_path / "target.npy"), prior="white",
                  law_steps=0, training=Training(40, 8, 1e-2, average=0.8))  # fmt: skip
    assert set(entry.players()) == {"generator"}
    found = run(entry, tmp_path / "run")
    assert found.manifest["data"] == {"target": "target.npy"}
    samples = found.sample(4)
    exact = two_point(image, periodic=False)
    np.testing.assert_allclose(samples.condition["two_point"][0], exact, atol=1e-5)
    exactly_counted(samples)
    loss = [row["generator/two-point correlation"] if "generator/two-point correlation" in row
            else next(v for k, v in row.items() if "two-point" in k and "violation" not in k)
            for row in history(tmp_path / "run")]  # fmt: skip
    assert loss[-1] < 0.7 * loss[0]
    result = microstructure_result({"data-free-a": found})
    assert set(result.figures) == {"figure-6", "figure-7"}
    off = [row["whole"] for row in result.data["data-free"]]
    assert len(off) == 64
    assert 0 < np.median(off) < 0.1
    assert "| data-free-a | 0 to 31 |" in result.markdown


@pytest.mark.parametrize("side", [64, 96, 160])
@pytest.mark.parametrize("seed", range(3))
def test_the_like_of_a_picture_can_be_asked_for(model, tmp_path, side, seed):
    """Estimates from a small picture that is not periodic are targets all the same."""
    image = picture(tmp_path / "picture.npy", side, seed)
    like = model.study.like(read_micrograph(tmp_path / "picture.npy"), {})
    assert like["volume_fraction"].shape == (1,)
    assert like["two_point"].shape == (1, RADII)
    assert float(like["volume_fraction"]) == pytest.approx(image.mean(), abs=1e-5)
    dark = model.study.like(read_micrograph(tmp_path / "picture.npy", phase="dark"), {})
    assert float(dark["volume_fraction"]) == pytest.approx(1 - image.mean(), abs=1e-5)
    for condition in (like, dark):
        exactly_counted(model.sample(2, **condition))


def test_a_fraction_beside_a_picture_scales_its_correlation(model, tmp_path):
    picture(tmp_path / "picture.npy", 160)
    shown = read_micrograph(tmp_path / "picture.npy")
    plain = model.study.like(shown, {})["two_point"]
    phi = torch.tensor([0.35, 0.6])
    like = model.study.like(shown, {"volume_fraction": phi})
    torch.testing.assert_close(like["two_point"][:, 0], phi, rtol=0, atol=1e-6)
    back = at_fraction(like["two_point"], plain[:, 0].expand(2))
    torch.testing.assert_close(back, plain.expand(2, -1), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="one of the two"):
        model.study.like(shown, {"two_point": plain})


def test_a_held_out_image_can_be_the_target():
    entry = study(objective="law", target="held-out 2")
    image = dataset.open_set("small")[1].images[2]
    phi, curve = entry.statistics().values()
    np.testing.assert_allclose(curve[0], two_point(image), atol=1e-6)
    assert float(phi) == pytest.approx(float(image.float().mean()), abs=1e-6)
    for number in ("99", "-1", "x", ""):
        with pytest.raises(InputError, match="expected a picture, or held-out K"):
            study(objective="law", target=f"held-out {number}").statistics()


def test_data_without_replicates_or_times_can_be_measured_against(model, monkeypatch):
    """As those of a published file, whose times are not known."""
    train, held_out = dataset.open_set("small")
    lone = replace(held_out, time=torch.full_like(held_out.time, torch.nan))
    place = "lawful.studies.microstructure.open_set"
    monkeypatch.setattr(place, lambda name: (train, lone))
    assert model.study.measure(model.network)["p2_rmse_median"] < 2e-2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "lawless"}, "objective: expected one of adversarial, law, got 'lawless'"),
        ({"prior": "pink"}, "prior: expected one of spectral, white, got 'pink'"),
        ({"law_steps": -1}, "law_steps: expected at least 0, got -1"),
        ({"enforced": 1}, "enforced: expected at least 2, got 1"),
        ({"enforced": 33}, "enforced: expected at most 32, got 33"),
        ({"width": 0}, "width: expected at least 1, got 0"),
        ({"blocks": -1}, "blocks: expected at least 0"),
        ({"critic_width": 0}, "critic_width: expected at least 1"),
        ({"group": "C8"}, "quarter turns and reflections, got C8"),
        ({"weight": -1.0}, "weight: expected at least 0, got -1"),
        ({"weight": float("nan")}, "weight: expected at least 0, got nan"),
        ({"penalty": float("inf")}, "penalty: expected at most 1e\\+12, got inf"),
        ({"critic_rate": 0.0}, "critic_rate: expected above 0, got 0"),
        ({"side": 66}, "side: expected a multiple of 4 from 64 to 1024, got 66"),
        ({"side": 60}, "from 64 to 1024, got 60"),
        ({"target": "x.png"}, "target: goes with objective law"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        study(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "no-such.h5"}, "data 'no-such.h5': expected cahn-hilliard, small, or an HDF5"),
        ({"objective": "law", "target": "no-such.png"}, "no-such.png: there is no such file"),
    ],
)
def test_data_that_cannot_be_used_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        study(**changes).game()


def test_an_unreadable_hdf5_file_is_one_line(tmp_path):
    (tmp_path / "set.h5").write_bytes(b"not an HDF5 file")
    with pytest.raises(InputError, match=r"set\.h5"):
        study(data=str(tmp_path / "set.h5")).game()


def test_presets_survive_their_configuration_file():
    for name, entry in MicrostructureStudy.presets().items():
        assert MicrostructureStudy.from_config(entry.config()) == entry, name
    assert study(enforced=12).trained_law().radii == 12
    assert enforceable(study()) == ()


def test_a_part_of_the_curve_is_trained_and_all_of_it_reported(tmp_path):
    entry = study(enforced=6, training=Training(2, 4, checkpoint=2))
    found = run(entry, tmp_path / "run")
    samples = found.sample(3)
    off = rms(two_point(samples.fields[:, 0] > 0.5), samples.condition["two_point"])
    np.testing.assert_allclose(
        samples.report.line("two-point correlation").violation, off, atol=1e-6
    )


def test_draws_keep_the_statistics_of_what_they_turn_and_shift():
    data, _ = dataset.open_set("small")
    directions, places = set(), set()
    for seed in range(12):
        batch = drawn_images(data, 6, torch.Generator().manual_seed(seed))
        x, c = batch.data, batch.condition
        torch.testing.assert_close(two_point(x[:, 0]), c["two_point"], rtol=0, atol=1e-6)
        torch.testing.assert_close(x.mean((1, 2, 3)), c["volume_fraction"], rtol=0, atol=1e-6)
        assert c["noise"].shape == (6, 64, 64)
        rows = torch.randint(len(data.images), (6,), generator=torch.Generator().manual_seed(seed))
        original = data.images[rows[0]].float()
        for turned, image in (("no", original), ("yes", original.T)):
            along = correlation_map(image)[0, :20]
            if torch.allclose(along, correlation_map(x[0, 0])[0, :20], atol=1e-6):
                directions.add(turned)
        places.add(bool(torch.equal(x[0, 0], original)))
    assert directions == {"no", "yes"}
    assert places == {False}


def test_targets_are_drawn_as_pairs():
    targets = dataset.open_set("small")[0].statistics
    batch = drawn_targets(targets, 20, 68, torch.Generator().manual_seed(0))
    assert batch.data is None
    c = batch.condition
    assert c["noise"].shape == (20, 68, 68)
    torch.testing.assert_close(c["two_point"][:, 0], c["volume_fraction"], rtol=0, atol=1e-6)
    assert len(c["volume_fraction"].unique()) > 5


@given(seed=st.integers(0, 10**6), phi=st.floats(0.3, 0.7))
@settings(max_examples=15, deadline=None)
def test_a_curve_at_another_fraction_keeps_its_normalised_correlation(seed, phi):
    _, curve = statistics("train")
    row = curve[seed % len(curve)][None].double()
    other = at_fraction(row, torch.tensor([phi], dtype=torch.float64))
    assert float(other[0, 0]) == pytest.approx(phi, abs=1e-7)
    own = float(row[0, 0])
    rho = (row - own**2) / (own * (1 - own))
    torch.testing.assert_close((other - phi**2) / (phi * (1 - phi)), rho, rtol=0, atol=1e-9)
    torch.testing.assert_close(at_fraction(other, row[:, 0]), row, rtol=0, atol=1e-9)


def test_a_bank_of_many_targets_measures_what_is_far():
    phi, curve = dataset.small(IMAGES)[0].statistics.values()
    many = torch.linspace(0.3, 0.7, 2000)
    rows = torch.randint(len(phi), (2000,), generator=torch.Generator().manual_seed(0))
    noise = 1e-3 * torch.randn(2000, RADII, generator=torch.Generator().manual_seed(1))
    noise[:, 0] = 0
    trained = at_fraction(curve[rows], many) + noise
    bank = TrainedTargets()
    bank.fill(many, trained)
    assert float(bank.reach) > 1e-3
    marked = bank.far(many, trained)
    assert 0 < float(marked.float().mean()) <= 0.006
    others = 1 - 2 * many[:, None] + trained  # the other phase is as far
    assert float((bank.far(1 - many, others) != marked).float().mean()) < 0.01
    assert bool(bank.far(torch.tensor([0.5]), torch.full((1, RADII), 0.25)).all())
    again = TrainedTargets()
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.far(many, trained), marked)


def test_players_with_a_group_are_symmetric():
    entry, group = study(group="D4"), planar("D4")
    players = entry.players()
    generator, critic = players["generator"].eval().double(), players["critic"].double()
    torch.nn.init.normal_(generator.network.head.weight, std=0.2)
    phi, curve = (value.double() for value in statistics(count=3))
    noise = torch.randn(3, entry.side, entry.side, dtype=torch.float64)
    c = {"volume_fraction": phi, "two_point": curve, "noise": noise}
    latent = lambda moved: generator.latent({**c, "noise": moved})[:, 0]  # noqa: E731
    assert equivariance_error(latent, noise, group, group).max() < 1e-9  # the law step solves
    x = torch.rand(3, 1, entry.side, entry.side, dtype=torch.float64)
    assert invariance_error(lambda y: critic(y, c), x, group).max() < 1e-12


def test_records_have_all_targets_of_every_way_and_each_group():
    against, replicates = chosen(dataset.open_set("small")[0], 40)
    made = likeness(replicates.unsqueeze(1), against)
    found = records({"another simulation": replicates.unsqueeze(1)}, {}, against)
    rows = morphology_records(found, against)
    names = [f"{group}: another simulation" for group in ("all", "droplets", "between", "spinodal")]
    assert list(dict.fromkeys(row["row"] for row in rows)) == names
    counts = [sum(row["row"] == name for row in rows) for name in names]
    assert counts[0] == len(against.images) == sum(counts[1:])
    p1 = against.images.double().mean((1, 2))
    few = np.flatnonzero(torch.minimum(p1, 1 - p1) < 0.35)
    assert counts[1] == len(few) > 0
    shown = [row["lineal_path_rmse"] for row in rows if row["row"] == names[1]]
    np.testing.assert_array_equal(shown, made["lineal_path_rmse"][few])
