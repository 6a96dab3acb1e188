"""Networks that subjects share."""

from lawful.nn.unet import UNet

__all__ = ["UNet"]
