"""The motif study: configurations, runs in little, the shipped models, the table."""

import json
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import load_file

import lawful
from lawful import InputError, Training
from lawful.data.digits import load_digits
from lawful.divergences import DIVERGENCES
from lawful.metrics.classifier import load_classifier
from lawful.model import load
from lawful.run import checkpoints, history, snapshots, train
from lawful.studies import motif
from lawful.studies.latent import generate, latent_vectors
from lawful.studies.motif import (
    NOISE,
    MotifStudy,
    digit_quality,
    motif_result,
    real_floor,
)

WEIGHTS_AT_START = 29752.326031
LOSSES_AT_START = {"adversarial": 0.702496, "motif": 7.797671, "critic": 1.386566, "R1": 0.000722}


@pytest.fixture
def few(monkeypatch):
    """Runs are judged by few samples."""
    monkeypatch.setattr(motif, "SAMPLES", 40)


def study(**changes):
    base = MotifStudy(Training(4, 6, 1e-3, checkpoint=2), digits="uci", width=8, critic_width=8)
    return replace(base, **changes)


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def run(entry, folder, **options):
    for _ in train(entry, folder, fabric(), **options):
        pass
    return load(folder)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "law", ["penalty", "alternation", "lagrangian", "config", "enforce", "data"]
)
def test_every_way_to_plant_trains_and_is_reported(law, tmp_path):
    model = run(study(law=law), tmp_path / law)
    violation = model.sample(3).report.line("motif").violation
    assert bool(torch.isfinite(violation).all())
    if law == "enforce":
        assert float(violation.max()) == 0.0
    assert float(model.sample(3, enforce=True).report.line("motif").violation.max()) == 0.0
    assert model.manifest["data"]["digits"].startswith("scikit-learn digits")
    assert 0 <= model.manifest["quality"]["confident"] <= 1


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_divergence_plays(divergence, tmp_path):
    entry = study(divergence=divergence, training=Training(2, 6, checkpoint=2))
    model = run(entry, tmp_path / divergence)
    assert model.manifest["steps"] == 2


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("rule", ["extragradient", "optimistic", "lookahead", "consensus"])
def test_an_interrupted_adversarial_run_ends_bit_for_bit_the_same(rule, tmp_path):
    entry = study(rule=rule, law="lagrangian", divergence="wasserstein",
                  training=Training(7, 4, checkpoint=3))  # fmt: skip
    run(entry, tmp_path / "whole")
    for progress in train(entry, tmp_path / "cut", fabric()):
        if progress.step == 5:  # two steps after the checkpoint
            break
    assert [int(path.stem) for path in checkpoints(tmp_path / "cut")] == [3]
    torch.manual_seed(77)
    run(entry, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in history(tmp_path / n)]
            for n in ("whole", "cut")]  # fmt: skip
    assert rows[0] == rows[1]


def test_players_and_their_views():
    assert set(study().players()) == {"generator", "critic"}
    assert set(study(law="lagrangian").players()) == {"generator", "critic", "multipliers"}
    entry = study(law="data", critic="standard")
    law = entry.planted()
    batch = entry.game().draw(torch.Generator().manual_seed(0))
    assert float(law.violation(batch.data, {}).max()) == 0.0
    clean = study().game().draw(torch.Generator().manual_seed(0))
    assert float(law.violation(clean.data, {}).min()) > 0.1


@pytest.mark.usefixtures("few")
def test_a_motif_from_a_picture_is_kept_in_the_configuration(tmp_path):
    path = tmp_path / "motif.png"
    grey = np.zeros((28, 28), np.float32)
    grey[2:5, 20:26] = 0.8
    matplotlib.image.imsave(path, np.stack([grey] * 3, 2))
    entry = study(motif=str(path))
    path.unlink()
    again = MotifStudy.from_config(json.loads(json.dumps(entry.config())))
    assert torch.equal(again.planted().mask, torch.from_numpy(grey > 0))
    assert float(again.planted().motif.max()) == pytest.approx(0.8, abs=5e-3)
    model = run(replace(entry, law="enforce"), tmp_path / "run")
    pixels = model.sample(2).fields[..., 2:5, 20:26]
    assert float((pixels - 0.8).abs().max()) < 5e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 8}, "odd size"),
        ({"row": 1}, "do not fit into 28 x 28"),
        ({"motif": "circle"}, "circle: expected plus, cross or a picture"),
        ({"critic": "prjected"}, "critic: expected one of projected, standard, got 'prjected'"),
        ({"law": "lagrangan"}, "law: expected one of"),
        ({"critic_rate": -1.0}, "critic_rate: expected above 0, got -1"),
        ({"beta2": 1.0}, "beta2"),
        ({"until": 1.0, "law": "enforce"}, "nothing to wait for"),
        ({"weight": 0.0, "law": "lagrangian"}, "one weight above 0"),
        ({"rule": "consensus", "law": "config"}, "differentiates gradients"),
        ({"weight": -1.0}, "weight: expected at least 0, got -1"),
        ({"penalty": float("nan")}, "penalty: expected at least 0, got nan"),
        ({"critic_steps": 0}, "critic_steps: expected at least 1, got 0"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        study(**changes)


def test_unequal_steps_under_a_joint_rule_are_refused():
    with pytest.raises(InputError, match=r"as often; got 1 in .* and 3 in"):
        study(rule="extragradient", critic_steps=3).game()


@pytest.mark.usefixtures("few")
def test_snapshots_show_the_same_noise_over_time(tmp_path):
    model = run(study(training=Training(20, 4, checkpoint=10)), tmp_path / "run")
    kept = snapshots(tmp_path / "run")
    assert list(kept) == [0, *range(2, 21, 2)]
    last = model.sample(8, seed=30_000).fields
    torch.testing.assert_close(kept[20], last, atol=1e-3, rtol=0)
    assert not torch.equal(kept[0], kept[20])


@pytest.mark.parametrize("name", ["motif-plus", "motif-cross"])
def test_shipped_models_obey_and_their_digits_are_digits(name):
    model = lawful.load(name)
    samples = model.sample(300, seed=9)
    law = model.study.planted()
    residual = law(samples.fields, {}).flatten(1).square().mean(1)
    assert float(residual.mean()) < 1e-3
    enforced = model.sample(20, seed=9, enforce=True).fields
    assert float(law(enforced, {}).square().max()) <= 1e-6
    torch.testing.assert_close(law.hide(enforced, {}), law.hide(samples.fields[:20], {}))
    with torch.no_grad():
        probability = load_classifier().probabilities(law.hide(samples.fields, {}))
    sure = probability.amax(1) >= 0.9
    assert float(sure.float().mean()) > 0.85
    shares = probability.argmax(1)[sure].bincount(minlength=10) / len(sure)
    assert float(shares.min()) > 0.03
    assert model.manifest["quality"]["motif"] < 1e-3
    assert model.manifest["training_seconds"] < 90 * 60


def test_the_judge_was_measured_on_held_out_digits():
    quality = lawful.load("digits").manifest["quality"]
    assert quality["held_out_accuracy"] >= 0.98
    assert quality["held_out_digits"] >= 2000


def test_quality_knows_good_digits_from_bad_ones():
    digits = load_digits("uci")
    law = study().planted()
    floor = real_floor(law, digits)
    with pytest.raises(InputError, match="at least 10"):
        digit_quality(digits.train[:9], law, digits)
    noise = digit_quality(torch.rand(400, 1, 28, 28), law, digits)
    one = digit_quality(digits.train[:1].expand(400, -1, -1, -1), law, digits)
    assert floor["frechet"] < 0.2 * min(noise["frechet"], one["frechet"])
    assert floor["precision"] > 0.8
    assert one["least_class"] == 0.0
    assert one["coverage"] < 0.1
    bare = digit_quality(digits.train[:400], law, digits)
    planted = digit_quality(law.enforce(digits.train[:400], {}), law, digits)
    assert planted["motif"] == 0.0
    assert planted["frechet"] == pytest.approx(bare["frechet"])


@pytest.mark.usefixtures("few")
def test_the_table_has_a_line_for_every_row_and_judges_pasted_samples_pasted(tmp_path):
    entry = study(training=Training(1, 2, checkpoint=1))
    runs = motif.RECIPE.runs(entry, "full-cross")
    assert all(f"-{run_.critic}-critic-" in name for name, run_ in runs.items())
    chosen = [name for name in runs if "penalty-mu-10-" in name and "cross" not in name[11:]]
    chosen = [*(n for n in chosen if n[-1] in "01"), next(n for n in runs if "onto" in n)]
    models = {name: run(runs[name], tmp_path / name) for name in chosen}
    result = motif_result(models)
    lines = [line for line in result.markdown.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:7]] == [
        "| projected critic, penalty, μ = 10", "| standard critic, penalty, μ = 10",
        "| standard critic, motif pasted onto the samples", "| real digits (the floor)",
        "| uniform noise",
    ]  # fmt: skip
    records = result.data["records"]
    pasted = "standard critic, motif pasted onto the samples"
    assert [entry["motif"] for entry in records if entry["row"] == pasted] == [0.0]
    seeds = [entry["seed"] for entry in records if entry["row"].startswith("projected")]
    assert seeds == [0, 1]
    assert "| Fréchet | projected critic | standard critic | ratio |" in result.markdown
    assert set(result.figures) == {"figure-2ab", "figure-2c", "figure-2d"}


@pytest.mark.parametrize("preset", MotifStudy.presets())
def test_every_preset_has_all_rows_and_no_row_is_another_under_a_new_label(preset):
    runs = motif.RECIPE.runs(MotifStudy.presets()[preset], preset)
    assert len({yaml.safe_dump(run_.config()) for run_ in runs.values()}) == len(runs)
    assert {run_.critic for run_ in runs.values()} == {"projected", "standard"}
    assert {run_.motif for run_ in runs.values()} == {"plus", "cross"}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("law", ["penalty", "alternation", "lagrangian", "config"])
def test_a_run_ends_when_the_mean_square_on_a_batch_is_below_its_threshold(law, tmp_path):
    entry = study(law=law, weight=3.0, training=Training(2, 4, 1e-9, checkpoint=2))
    torch.manual_seed(0)
    generator = entry.network()
    batch = entry.game().draw(torch.Generator().manual_seed(0))
    if law == "alternation":  # the law's own move draws the third batch of a turn
        random = torch.Generator().manual_seed(0)
        batch = [entry.game().draw(random) for _ in range(3)][-1]
    square = float(entry.planted().loss(generator(batch.condition), batch.condition).detach())
    above = run(replace(entry, until=1.01 * square), tmp_path / "above")
    assert above.manifest["steps"] == 1
    below = run(replace(entry, until=0.5 * square), tmp_path / "below")
    assert below.manifest["steps"] == 2
    # Killed between its last checkpoint and its model, an ended run stays ended.
    for name in ("model.safetensors", "manifest.json"):
        (tmp_path / "above" / name).unlink()
    again = run(replace(entry, until=1.01 * square), tmp_path / "above", resume=True)
    assert again.manifest["steps"] == 1
    assert again.manifest["weights_sha256"] == above.manifest["weights_sha256"]


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch):
    entry = study(training=Training(6, 4, checkpoint=2))
    for progress in train(entry, tmp_path / "run", fabric()):
        if progress.step == 3:
            break
    monkeypatch.setattr(MotifStudy, "origin", lambda self: {"digits": "others"})
    with pytest.raises(InputError, match=r"was trained on .*scikit-learn.*; to be had now"):
        run(entry, tmp_path / "run", resume=True)


def test_the_first_steps_of_the_shipped_preset_are_what_they_were():
    """Weights and losses at the start of `full`; whoever changes them retrains the models."""
    entry = MotifStudy.presets()["full"]
    torch.manual_seed(entry.training.seed)
    players = entry.players()
    assert list(players) == ["generator", "critic"]
    weights = [p.detach().double() for m in players.values() for p in m.parameters()]
    total = sum(float(weight.abs().sum()) for weight in weights)
    assert total == pytest.approx(WEIGHTS_AT_START, rel=1e-6)
    game = replace(entry, digits="uci").game()
    batch = game.draw(torch.Generator().manual_seed(0))
    terms = [part.loss(players, batch) for move in game.moves for part in move.parts]
    found = {name: float(value.detach()) for part in terms for name, value in part.items()}
    assert found == pytest.approx(LOSSES_AT_START, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "preset"), [("motif-plus", "full"), ("motif-cross", "full-cross")]
)
def test_shipped_models_are_of_the_presets(name, preset):
    manifest = lawful.load(name).manifest
    assert manifest["config"] == MotifStudy.presets()[preset].config()
    assert manifest["preset"] == preset


def test_generation_is_seeded_and_in_parts():
    torch.manual_seed(0)
    network = study().network()
    one, other = (generate(network, {"noise": latent_vectors(n, NOISE)}) for n in (260, 300))
    torch.testing.assert_close(one[:250], other[:250])
