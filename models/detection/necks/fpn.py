"""FPN with P6 and P7: from the encoder's maps to the five levels that FCOS and RetinaNet read.

Lin et al. 2017 (1612.03144), section 3, with the two coarser levels of RetinaNet (Lin et al. 2017), from P5. The parts
are torchvision's, which start as FAD's release does: Kaiming uniform with a = 1, bias 0.
"""

from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from models.detection.heads.head import Maps


class FPN(nn.Module):
    """1x1 laterals, nearest upsampling, 3x3 outputs; P6 is a 3x3 convolution of stride 2 of P5, P7 one of relu(P6).

    Args:
        in_channels: of the encoder's maps, finest first.
        channels: C of every output.
    """

    def __init__(self, in_channels: list[int], channels: int = 256) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(in_channels, channels, LastLevelP6P7(channels, channels))

    def forward(self, maps: Maps) -> Maps:
        """Return the encoder's maps (B, in_channels[i], H_i, W_i) and two coarser levels as (B, C, H_l, W_l)."""
        return list(self.pyramid({str(level): x for level, x in enumerate(maps)}).values())
