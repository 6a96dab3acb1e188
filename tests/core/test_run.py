"""Run folders: killed and resumed, refused, and what stays after a fault."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from lawful import InputError, Training, load, registry
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.run import checkpoints, history, train

TINY = str(Path(__file__).with_name("tiny.py"))
HEAT = str(Path(__file__).parents[2] / "examples" / "heat.py")


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def study(**changes):
    kind = registry.find(TINY)
    return kind(Training(**{"steps": 60, "batch": 8, "checkpoint": 7, **changes}))


def command(folder, steps=1200, **environment):
    arguments = ["train", TINY, "--out", folder, "--training.steps", str(steps), "--resume"]
    arguments += ["--training.checkpoint", "20"]
    return subprocess.Popen(
        [sys.executable, "-m", "lawful", *map(str, arguments)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment_a_run_resumes_and_ends_with_the_same_weights(tmp_path):
    assert command(tmp_path / "whole").wait(120) == 0
    for after in (2, 13):
        process = command(tmp_path / "killed")
        while len(checkpoints(tmp_path / "killed")) < 1 or (
            int(checkpoints(tmp_path / "killed")[-1].stem) < 20 * after
        ):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert not (tmp_path / "killed" / "manifest.json").exists()
    assert command(tmp_path / "killed").wait(120) == 0
    whole, killed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert torch.equal(value, killed[name])
    rows = [(tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("whole", "killed")]
    steps = [[json.loads(row)["step"] for row in lines] for lines in rows]
    assert steps[0] == steps[1] == list(range(10, 1201, 10))
    assert json.loads(rows[0][-1])["mean/mean"] == json.loads(rows[1][-1])["mean/mean"]


def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_checkpoint_stays(tmp_path):
    process = command(tmp_path / "run", steps=200, TINY_NAN_FROM="120")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "lawful: step 120: the loss term 'mean' is nan in move 'mean'" in said
    assert "Traceback" not in said
    assert checkpoints(tmp_path / "run")[-1].stem == "00000120"
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_law_is_learnt_and_the_model_can_be_loaded(tmp_path):
    for progress in train(
        study(steps=600, learning_rate=0.01, average=0.98), tmp_path / "r", fabric()
    ):
        last = progress
    assert last.step == last.steps == 600
    model = load(tmp_path / "r")
    report = model.sample(mean=[0.1, 0.5, 0.9]).report
    assert report.line("mean").violation.max() < 0.05
    quality = json.loads((tmp_path / "r" / "manifest.json").read_text())["quality"]
    assert quality["laws"][0]["violation"]["worst"] < 0.1


def test_a_used_folder_needs_resume_and_the_same_configuration(tmp_path):
    list(train(study(), tmp_path, fabric()))
    with pytest.raises(InputError, match="--resume"):
        next(train(study(), tmp_path, fabric()))
    with pytest.raises(InputError, match=r"training\.seed: the run's is 0, asked for 1$"):
        next(train(study(seed=1), tmp_path, fabric(), resume=True))
    assert list(train(study(), tmp_path, fabric(), resume=True)) == []  # it is finished


def test_only_the_last_checkpoints_are_kept(tmp_path):
    list(train(study(), tmp_path, fabric()))
    assert [path.stem for path in checkpoints(tmp_path)] == ["00000056", "00000060"]


def test_a_truncated_checkpoint_is_named_and_nothing_is_overwritten(tmp_path):
    process = train(study(), tmp_path, fabric())
    for progress in process:
        if progress.step == 20:
            break
    last = checkpoints(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(InputError, match=last.name):
        next(train(study(), tmp_path, fabric(), resume=True))
    assert len(checkpoints(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage",
    [b'{"step": 50, "sec', b'{"step": "x"}\n', b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"],
)
def test_damaged_lines_of_the_metrics_do_not_stop_a_resume(tmp_path, damage):
    for name in ("whole", "torn"):
        for progress in train(study(), tmp_path / name, fabric()):
            if name == "torn" and progress.step == 30:
                break
    torn = tmp_path / "torn" / "metrics.jsonl"
    torn.write_bytes(damage + b"\n" + torn.read_bytes() + damage)
    list(train(study(), tmp_path / "torn", fabric(), resume=True))
    rows = [history(tmp_path / name) for name in ("whole", "torn")]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds")
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[1]] == sorted({*range(10, 61, 10), *range(7, 61, 7)})


def test_metrics_that_are_no_file_are_refused(tmp_path):
    next(train(study(), tmp_path, fabric()))
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics\.jsonl: expected a file"):
        next(train(study(), tmp_path, fabric(), resume=True))


def test_whatever_a_run_writes_has_the_permissions_of_a_new_file(tmp_path):
    list(train(study(), tmp_path / "run", fabric()))
    (tmp_path / "new").touch()
    usual = (tmp_path / "new").stat().st_mode
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {path.stat().st_mode for path in files} == {usual}


@pytest.mark.parametrize("text", ["", "x = 1\n", "raise ValueError('oh')\n", "def broken(:\n"])
def test_files_without_exactly_one_study_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        registry.find(str(path))
    assert "\n" not in str(caught.value)


def test_the_heat_example_learns_the_equation(tmp_path):
    assert len(Path(HEAT).read_text().splitlines()) <= 44
    kind = registry.find(HEAT)
    list(train(kind(Training(steps=400, learning_rate=3e-3, average=0.95)), tmp_path, fabric()))
    model = load(tmp_path)
    samples = model.sample(diffusivity=[0.05, 0.1], mode=[1, 2])
    assert relative_error(samples.fields, model.study.reference(samples.condition)).max() < 0.25
    assert model.manifest["quality"]["relative_error"]["mean"] < 0.5


def test_the_heat_example_has_cold_ends_and_a_reference_that_obeys_its_law():
    study = registry.find(HEAT)()
    c = study.condition({q.name: q.draw(40, torch.Generator()) for q in study.quantities})
    assert set(c["mode"].tolist()) == {1.0, 2.0, 3.0}
    x = study.reference(c)
    (entry,) = study.laws()
    assert float(entry(x, c).abs().max()) < 1e-5
    ends = torch.stack([1.5 * x[..., i] - 0.5 * x[..., j] for i, j in ((0, 1), (-1, -2))])
    assert float(ends.abs().max()) < 0.02  # extrapolated from two cells of 1/32
    with pytest.raises(InputError, match="whole numbers"):
        Model(study, study.network(), {}).sample(mode=1.5)
