"""A model in Python: what it shows of itself, and that any network may stand in it."""

import torch
from torch import nn

from lawful import Model, load


class Fixed(nn.Module):
    """A generator without parameters."""

    def forward(self, condition):
        return torch.zeros(len(condition["frequency"]), 1, 128, 128)


def test_models_and_samples_are_shown_in_a_line():
    model = load("burgers")
    for what in (model, model.sample(frequency=4.0)):
        assert "\n" not in repr(what)
        assert len(repr(what)) < 200
    assert repr(model).startswith("Model(burgers: ")
    assert "viscosity" in repr(model)


def test_a_network_without_parameters_can_be_sampled_from():
    model = Model(load("burgers").study, Fixed(), {})
    samples = model.sample(3)
    assert samples.report.count == 3
