"""HCN, co-occurrence features of skeletons (1804.06055): joints become channels, so a convolution covers all of them.

Shapes: B batch, T frames, V joints, M persons, K classes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FRAMES, JOINTS, PERSONS = 32, 25, 2


class _OneInput(nn.Module):
    """The layers of one kind of input, positions or motions: (B, 3, T, V) to (B, 64, T / 4, 8)."""

    def __init__(self):
        super().__init__()
        self.point = nn.Conv2d(3, 64, 1)
        self.time = nn.Conv2d(64, 32, (3, 1), padding=(1, 0))
        self.joints = nn.Conv2d(JOINTS, 32, 3, padding=1)
        self.more = nn.Conv2d(32, 64, 3, padding=1)
        self.dropout = nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.time(torch.relu(self.point(x)))  # (B, 32, T, V)
        x = F.max_pool2d(self.joints(x.permute(0, 3, 2, 1)), 2)  # (B, 32, T / 2, 16)
        return F.max_pool2d(self.dropout(self.more(x)), 2)


class SkeletonEncoder(nn.Module):
    """Positions and motions of two persons; taps (128, 4, 4), (256, 2, 2), 1024 and 512; class scores.

    Args:
        num_classes: K.
    """

    channels: ClassVar[dict[str, int]] = {"conv5": 128, "conv6": 256, "flat": 1024, "fc7": 512}
    statistics: ClassVar[None] = None  # joints are no pictures

    def __init__(self, num_classes: int):
        super().__init__()
        self.position, self.motion = _OneInput(), _OneInput()
        self.conv5, self.conv6 = nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 256, 3, padding=1)
        self.dropout2d, self.dropout = nn.Dropout2d(0.5), nn.Dropout(0.5)
        self.fc7, self.fc8 = nn.Linear(1024, 512), nn.Linear(512, num_classes)

    def taps(self, skeletons: Tensor) -> list[Tensor]:
        """Return the four taps, of joints (B, 3, 32, 25, 2) in metres; the maximum over the persons."""
        joints = skeletons.permute(0, 4, 1, 2, 3).flatten(0, 1)  # (B M, 3, T, V)
        motion = F.interpolate(
            joints[:, :, 1:] - joints[:, :, :-1], size=joints.shape[2:], mode="bilinear", align_corners=False
        )
        x = torch.cat((self.position(joints), self.motion(motion)), dim=1)  # (B M, 128, 8, 8)
        fifth = F.max_pool2d(self.dropout2d(torch.relu(self.conv5(x))), 2)
        sixth = F.max_pool2d(self.dropout2d(torch.relu(self.conv6(fifth))), 2)
        fifth, sixth = (t.unflatten(0, (-1, skeletons.shape[-1])).amax(dim=1) for t in (fifth, sixth))
        flat = sixth.flatten(1)
        return [fifth, sixth, flat, self.dropout(torch.relu(self.fc7(flat)))]

    def forward(self, skeletons: Tensor) -> Tensor:
        """Return class scores (B, K)."""
        return self.fc8(self.taps(skeletons)[-1])
