"""The network: dense convolutions, three grids, and outputs laid out as YuNet's, so that its decoding serves.

Per cell of a grid of stride S (8, 16, 32): cls and obj, whose geometric mean is the score; bbox (dx, dy, log w, log h);
kps (x, y of the four corners, clockwise from the top left, and of their centre), all in cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
POINTS = 5  # four corners and their centre: as many as YuNet's decoding reads


def _unit(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two dense convolutions about a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _unit(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(values + self.second(self.first(values)))


class PlateNet(nn.Module):
    """BGR in [0, 255], (N, 3, H, W) with H and W multiples of 32, to `cls`, `obj`, `bbox`, `kps` of each stride."""

    def __init__(self, widths: tuple[int, ...] = (16, 24, 40, 56, 64), neck: int = 40) -> None:
        super().__init__()
        stem, quarter, eighth, sixteenth, last = widths
        self.scale = nn.BatchNorm2d(3, affine=False)  # learns the mean and spread of pixels; folds into the stem
        self.stem = nn.Sequential(_unit(3, stem, 2), _unit(stem, quarter, 2), Residual(quarter))
        self.eighth = nn.Sequential(_unit(quarter, eighth, 2), Residual(eighth), Residual(eighth))
        self.sixteenth = nn.Sequential(_unit(eighth, sixteenth, 2), Residual(sixteenth), Residual(sixteenth))
        self.last = nn.Sequential(_unit(sixteenth, last, 2), Residual(last))
        self.lateral = nn.ModuleList(_unit(c, neck, size=1) for c in (eighth, sixteenth, last))
        self.smooth = nn.ModuleList(_unit(neck, neck) for _ in STRIDES)
        self.tower = nn.ModuleList(_unit(neck, neck) for _ in STRIDES)
        self.out = nn.ModuleList(nn.Conv2d(neck, 2 + 4 + 2 * POINTS, 1) for _ in STRIDES)
        for head in self.out:
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            with torch.no_grad():
                head.bias[:2] = -4.0  # few cells have a plate

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """cls (N, A, 1) x 3, obj x 3, bbox (N, A, 4) x 3, kps (N, A, 10) x 3; cls and obj are logits in training."""
        values = self.stem(self.scale(pixels))
        eighth = self.eighth(values)
        sixteenth = self.sixteenth(eighth)
        last = self.last(sixteenth)
        low = self.lateral[2](last)
        middle = self.lateral[1](sixteenth) + nn.functional.interpolate(low, scale_factor=2.0, mode="nearest")
        high = self.lateral[0](eighth) + nn.functional.interpolate(middle, scale_factor=2.0, mode="nearest")
        cls, obj, bbox, kps = [], [], [], []
        for place, level in enumerate((high, middle, low)):
            made = self.out[place](self.tower[place](self.smooth[place](level)))
            flat = made.permute(0, 2, 3, 1).flatten(1, 2)
            scores = flat[..., :2] if self.training else torch.sigmoid(flat[..., :2])
            cls.append(scores[..., 0:1])
            obj.append(scores[..., 1:2])
            bbox.append(flat[..., 2:6])
            kps.append(flat[..., 6:])
        return (*cls, *obj, *bbox, *kps)


OUTPUT_NAMES = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)


def grid(height: int, width: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Of every cell of all grids: its column and row (A, 2), and its stride (A,)."""
    places, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places.append(torch.stack((x, y), dim=-1).reshape(-1, 2))
        strides.append(torch.full((rows * columns,), stride))
    return torch.cat(places).float().to(device), torch.cat(strides).float().to(device)


def decode(bbox: Tensor, kps: Tensor, places: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, A, 4) as x0, y0, x1, y1 and points (N, A, 5, 2), in pixels."""
    centre = (places + bbox[..., :2]) * strides[:, None]
    half = torch.exp(bbox[..., 2:].clamp(-6, 6)) * strides[:, None] / 2
    points = (places[:, None] + kps.unflatten(-1, (POINTS, 2))) * strides[:, None, None]
    return torch.cat((centre - half, centre + half), dim=-1), points
