"""Names of quantities are the user's: whatever they are, one can train, sample and report."""

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import pytest
import torch
from torch import nn

import lawful
from lawful import InputError, Quantity, Study, Training, registry
from lawful.cli.main import main
from lawful.laws import FunctionLaw
from lawful.study import Axis

TAKEN = ("n", "seed", "tolerance", "refine", "enforce", "out", "model", "study", "help", "grad",
         "condition", "self", "quantities", "picture", "no-enforce", "size",
         "tyro-print-completion")  # fmt: skip
FREE = ("wave-number", "wave len", "ν", "a/b", "..", "50%", "class", "2nd", "k_x", "$x$", "[b]",
        "phase")  # fmt: skip
NAMES = (*TAKEN, *FREE)


class Listing(nn.Module):
    """Fields that hold the quantities' values, a column each."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, condition):
        values = torch.stack([condition[name] for name in NAMES], 1)
        return self.scale * values[:, None, None, :].expand(-1, 1, 2, -1)


@dataclass(frozen=True)
class Own:
    """Options of a study's own: what is sampled has twice the size."""

    size: int = 1

    def apply(self, model, condition):
        network = deepcopy(model.network)
        network.scale.data *= self.size
        return replace(model, network=network), condition, {"size": self.size}


def off(x, c):
    return x.mean((1, 2)) - torch.stack([c[name] for name in NAMES], 1)


@dataclass(frozen=True)
class Named(Study):
    training: Training = field(default_factory=lambda: Training(1, 2))
    name = "named"
    about = "fields that list their condition"
    quantities = tuple(Quantity(name, 0.0, 1.0) for name in NAMES)
    sample_options = Own

    def laws(self):
        return (off,)

    def network(self):
        return Listing()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.STUDIES, "named", Named)
        folder = tmp_path_factory.mktemp("named") / "run"
        lawful.train(Named(), folder, quiet=True)
        yield folder


PYTHON_ONLY = ("grad", "condition", "self", "quantities", "picture")


def option(name):
    """How a name is spelled on the command line."""
    plain = "-".join(part for part in re.split(r"[^\w]|_", name) if part)
    if not plain:
        return f"--c.{NAMES.index(name)}"
    return f"--c.{plain}" if name in TAKEN and name not in PYTHON_ONLY else f"--{plain}"


@pytest.mark.parametrize("ending", [".h5", ".nc", ".npz"])
def test_every_name_reaches_the_network_the_file_and_the_report(run, tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    values = {name: (k + 1) / 64 for k, name in enumerate(NAMES)}
    model = lawful.load(run)
    fields = model.sample(condition=values).fields
    scale = float(model.network.scale.detach())
    expected = scale * torch.tensor(list(values.values()))
    torch.testing.assert_close(fields[0, 0, 0], expected)
    given = [part for name, value in values.items() for part in (option(name), str(value))]
    out = f"a{ending}"
    assert main(["sample", str(run), "--out", out, "-n", "1", "--seed", "5", *given]) == 0
    if ending == ".h5":
        with h5py.File(out) as file:
            torch.testing.assert_close(torch.tensor(file["fields"][0, 0, 0]), expected)
            assert file["condition/wave-number"][0] == pytest.approx(values["wave-number"])
    assert main(["report", out, "--out", "r"]) == 0
    found = json.loads(Path("r/report.json").read_text())
    assert found["laws"][0]["violation"]["mean"] < 0.1
    assert found["samples"] == 1


@pytest.mark.parametrize("spelling", ["--wave-number", "--wave_number", "--c.wave-number",
                                      "--c.wave_number"])  # fmt: skip
def test_an_option_is_spelled_with_dashes_or_underscores(run, tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run), "--out", "a.h5", spelling, "0.25", "0.5"]) == 0
    with h5py.File("a.h5") as file:
        assert file["condition/wave-number"][:].tolist() == [0.25, 0.5]


def test_messages_name_the_option_as_it_was_given(run, capsys):
    for name in ("--wave-number", "--c.seed"):
        assert main(["sample", str(run), "--out", "a.h5", name, "nan"]) == 2
        assert name in capsys.readouterr().err


def test_a_study_adds_options_of_its_own(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for size in ("1", "2"):
        arguments = ["--size", size, "--c.size", "0.5", "--out", f"{size}.h5"]
        assert main(["sample", str(run), *arguments]) == 0
    with h5py.File("1.h5") as one, h5py.File("2.h5") as two:
        torch.testing.assert_close(
            torch.tensor(two["fields"][:]), 2 * torch.tensor(one["fields"][:])
        )
        assert json.loads(two.attrs["lawful"])["sampled"]["size"] == 2
        assert two["condition/size"][:].tolist() == [0.5]
    assert main(["sample", "burgers", "--size", "2", "--out", "a.h5"]) == 2
    assert "Unrecognized options: --size" in capsys.readouterr().err


def test_options_of_the_product_stay_its_own_in_python(run):
    model = lawful.load(run)
    plain = {name: 0.5 for name in NAMES}
    assert len(model.sample(3, seed=2, condition=plain).fields) == 3
    for wrong in ({"seed": 0.5}, {"refine": 0.5}, {"condition": 0.5}):
        with pytest.raises(InputError, match=next(iter(wrong))) as caught:
            model.sample(**wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="given twice"):
        model.sample(condition={"phase": 0.1}, phase=0.2)
    assert float(model.sample(phase=0.25).condition["phase"]) == 0.25


def test_only_what_cannot_be_a_name_is_refused():
    for wrong in ("", " ", 3, None):
        with pytest.raises(InputError, match="expected a name"):
            Quantity(wrong, 0.0, 1.0)
    for pair in (("a", "a"), ("wave-number", "wave_number"), ("k x", "k-x")):
        with pytest.raises(InputError, match="spelled alike"):
            type("Twin", (Study,), {"quantities": tuple(Quantity(n, 0.0, 1.0) for n in pair)})


@dataclass(frozen=True)
class Alike(Named):
    def laws(self):
        return FunctionLaw(off, "row sum"), FunctionLaw(off, "row_sum")


def test_laws_that_a_file_could_not_tell_apart_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="laws: expected names that differ"):
        lawful.train(Alike(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Fields(Named):
    out: str = "of the study"
    track: float = 1.5
    name = "fields"


@dataclass(frozen=True)
class Negated(Named):
    no_resume: float = 1.5
    name = "negated"


def test_a_field_is_not_taken_for_the_negation_of_a_switch(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry.STUDIES, "negated", Negated)
    arguments = ["train", "negated", "--out", "a", "--config.no-resume", "2.5", "--dry-run"]
    assert main(arguments) == 0
    assert "no_resume: 2.5" in capsys.readouterr().out


def test_axes_that_a_file_could_not_hold_are_refused():
    for wrong in ("estimated_error", "condition", "condition_mean", "outside_x", "sample"):
        with pytest.raises(InputError, match=f"axis '{wrong}': expected another name"):
            Axis(wrong, 0, 1)
    with pytest.raises(InputError, match=r"axes: expected .* got x, x"):
        type("Twin", (Study,), {"axes": (Axis("x", 0, 1), Axis("x", 0, 2))})


def test_fields_of_a_study_do_not_collide_with_the_options_of_train(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry.STUDIES, "fields", Fields)
    arguments = ["train", "fields", "--out", "a", "--config.out", "b", "--dry-run"]
    assert main([*arguments, "--config.training.steps", "3"]) == 0
    text = capsys.readouterr().out
    assert "out: b" in text
    assert "steps: 3" in text
