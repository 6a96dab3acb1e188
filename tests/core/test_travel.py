"""A run of a user's own study moves, keeps its code, and runs it only where it is known."""

import importlib
import inspect
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lightning_fabric import Fabric

import lawful
from lawful import InputError, LawfulWarning, load, registry
from lawful.cli.main import main
from lawful.run import train
from lawful.studies.burgers import BurgersStudy

TINY = Path(__file__).with_name("tiny.py")
SMALL = ["--training.steps", "4", "--training.checkpoint", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and an account on which no study is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "account"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(here):
    """A run of a user's own file, which prints when it is read."""
    (here / "mine.py").write_text(TINY.read_text() + "\nprint('I RAN')\n")
    assert main(["train", "mine.py", "--out", "run", *SMALL]) == 0
    return here / "run"


def forget(here):
    shutil.rmtree(here / "account")


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def test_a_run_moves_and_needs_its_first_place_no_more(trained, here):
    fields = load("run").sample(mean=0.5).fields
    manifest = (trained / "manifest.json").read_text() + (trained / "config.yaml").read_text()
    assert str(here) not in manifest
    assert (trained / "study.py").read_bytes() == (here / "mine.py").read_bytes()
    (here / "elsewhere").mkdir()
    moved = trained.rename(here / "elsewhere" / "moved")
    (here / "mine.py").unlink()
    assert torch.equal(load(moved).sample(mean=0.5).fields, fields)


def test_an_edited_study_is_not_used_on_old_weights_without_a_word(trained, here, capsys):
    fields = load("run").sample(mean=0.5).fields
    edited = (here / "mine.py").read_text().replace("return x * torch.nan if", "return x + 1 if")
    (here / "mine.py").write_text(edited.replace("else x\n", "else x + 1\n"))
    assert torch.equal(load("run").sample(mean=0.5).fields, fields)
    with pytest.warns(LawfulWarning, match="edited since"):
        other = load("run", study="mine.py").sample(mean=0.5).fields
    torch.testing.assert_close(other, fields + 1)
    arguments = ["train", "mine.py", "--out", "run", "--resume", *SMALL]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "edited since" in said
    assert "study.py" in said
    assert said.count("\n") == 1
    assert main(["train", "run/study.py", *arguments[2:]]) == 0


def test_a_copy_that_was_edited_is_not_run(trained, here):
    (trained / "study.py").write_text("raise SystemExit")
    with pytest.warns(LawfulWarning, match="edited since; the text that was trained runs"):
        model = load("run")
    assert registry.told(type(model.study)) != f"tiny ({trained / 'study.py'})"
    assert str(here / "account") in registry.told(type(model.study))
    forget(here)
    with pytest.raises(InputError, match="not known here"):
        load("run")


def test_a_strangers_run_and_file_run_no_code_before_they_are_named(trained, here, capsys):
    assert main(["sample", "run", "-n", "3", "--out", "a.h5"]) == 0
    forget(here)
    capsys.readouterr()
    for arguments in (["sample", "run", "--out", "b.h5"], ["report", "run"], ["report", "a.h5"]):
        assert main(arguments) == 2
        output = capsys.readouterr()
        assert "not known here" in output.err
        assert output.err.count("\n") == 1
        assert "I RAN" not in output.out
    named = ["--study", "run/study.py"]
    assert main(["report", "a.h5", "--out", "r", *named]) == 0
    said = capsys.readouterr().out
    assert "I RAN" in said
    assert str(trained / "study.py") in said  # which of the texts was taken
    assert main(["sample", "run", "-n", "3", "--out", "b.h5"]) == 0  # known from now on


@pytest.mark.parametrize(
    "change", [{"source": {"sha256": "../../evil"}}, {"source": 3}, {"study": "/tmp/evil.py"}]
)
def test_a_manifest_cannot_point_at_code(trained, here, change):
    manifest = json.loads((trained / "manifest.json").read_text())
    del manifest["source"]
    (trained / "manifest.json").write_text(json.dumps(manifest | change))
    (here / "evil.py").write_text("raise ValueError('ran')")
    with pytest.raises(InputError, match=r"not known here|expected names"):
        load("run")


def test_one_class_of_several_in_a_file_is_found_again(here, monkeypatch):
    text = TINY.read_text() + "\n\nclass Other(Tiny):\n    name = 'other'\n"
    (here / "pair.py").write_text(text)
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "pair", raising=False)
    import pair

    list(train(pair.Other(pair.Training(2, 4)), here / "run", fabric()))
    assert type(load(here / "run").study).__name__ == "Other"


@pytest.mark.parametrize("source", [True, False])
def test_a_class_of_a_session_without_a_file_is_trained_and_named(here, monkeypatch, source):
    session = ModuleType("session")
    monkeypatch.setitem(sys.modules, "session", session)
    exec(compile(TINY.read_text(), "<prompt>", "exec"), vars(session))
    study = session.Tiny(session.Training(2, 4))
    if source:
        monkeypatch.setattr(inspect, "getsource", lambda kind: f"class {kind.__name__}: ...")
    list(train(study, here / "run", fabric()))
    assert not (here / "run" / "study.py").exists()
    with pytest.raises(InputError, match="study="):
        load(here / "run")
    for named in (session.Tiny, study):
        assert load(here / "run", study=named).sample(mean=0.2).fields.isfinite().all()
    assert list(train(study, here / "run", fabric(), resume=True)) == []


def test_a_file_that_trains_when_it_is_read_is_refused(here):
    text = TINY.read_text() + (
        "\nfrom lightning_fabric import Fabric\nfrom lawful.run import train\n"
        "next(train(Tiny(Training(2, 4)), 'run', Fabric(accelerator='cpu')))\n"
    )
    (here / "eager.py").write_text(text)
    with pytest.raises(InputError, match="__main__"):
        registry.find("eager.py")
    assert not (here / "run").exists()


def imported(here, monkeypatch, more):
    """The module of a script with the tiny study and `more`, as an interpreter that runs it."""
    (here / "script.py").write_text(TINY.read_text() + more)
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "script", raising=False)
    return importlib.import_module("script")


@pytest.mark.parametrize(
    "more",
    [
        "\nfrom pathlib import Path\nPath('again').write_text('x')\n",
        "\nlawful = __import__('lawful')\ndef main(): return lawful.train(Tiny(Training(2, 4)), "
        "out='run', quiet=True)\nmodel = main()\n",
    ],
)
def test_a_script_that_does_more_than_define_is_not_read_again(here, monkeypatch, capsys, more):
    def run():
        script = imported(here, monkeypatch, more)
        if not (here / "run").exists():
            list(train(script.Tiny(script.Training(2, 4)), here / "run", fabric()))
        return script

    with pytest.warns(LawfulWarning, match="if __name__ ==") as warned:
        script = run()
    assert [entry.category for entry in warned] == [LawfulWarning]
    before = sorted(here.rglob("*"))
    assert not (here / "run" / "study.py").exists()
    assert main(["sample", "run", "--out", "a.h5"]) == 2
    assert "not known here" in capsys.readouterr().err
    assert load("run", study=script.Tiny).sample(mean=0.2).fields.isfinite().all()
    assert sorted(here.rglob("*")) == before


def test_a_script_that_trains_under_its_guard_is_read_again(here, monkeypatch, recwarn):
    more = (
        "\n'''Docs.'''\nCACHE = dict(a=1)\ntry:\n    import absent\nexcept ImportError:\n"
        "    absent = None\nif __name__ == '__main__':\n    raise SystemExit\n"
    )
    script = imported(here, monkeypatch, more)
    list(train(script.Tiny(script.Training(2, 4)), here / "run", fabric()))
    assert main(["sample", "run", "--out", "a.h5"]) == 0
    assert not [entry for entry in recwarn if entry.category is LawfulWarning]


@pytest.mark.parametrize(
    ("given", "said"),
    [(BurgersStudy, r"BurgersStudy\(\), got the class"), ("burgers", "'burgers'"), (None, "None")],
)
def test_what_is_no_study_is_refused_before_anything_is_written(here, given, said):
    with pytest.raises(InputError, match=said):
        lawful.train(given, out="run")
    with pytest.raises(InputError, match="out: expected"):
        lawful.train(BurgersStudy.presets()["full"], out=None)
    assert not list(here.iterdir())


def test_entries_that_differ_are_named_and_no_others(trained, capsys):
    capsys.readouterr()
    other = ["--training.steps", "4", "--training.checkpoint", "3", "--training.seed", "9"]
    assert main(["train", "mine.py", "--out", "run", "--resume", *other]) == 2
    said = capsys.readouterr().err
    assert "training.checkpoint: the run's is 2, asked for 3; " in said
    assert "training.seed: the run's is 0, asked for 9\n" in said
    assert "{" not in said
