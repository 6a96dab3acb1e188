"""Networks of small images."""

import pytest
import torch

from lawful import InputError
from lawful.metrics.judge import Judge
from lawful.nn.images import ImageCritic, ImageGenerator


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
    judge = Judge(28).eval()
    image = torch.rand(2, 1, 28, 28)
    assert judge.features(image).shape == (2, 64)
    assert float((judge.features(image) - judge.features(image.rot90(1, (2, 3)))).norm()) > 1e-2
    total = judge.probabilities(image).sum(1)
    torch.testing.assert_close(total, torch.ones(2))
    assert judge({"image": image}).shape == image.shape


@pytest.mark.parametrize("kind", [ImageGenerator, ImageCritic])
def test_sides_that_do_not_halve_twice_are_refused(kind):
    with pytest.raises(InputError, match="side divisible by 4, got 30"):
        kind(30)
