"""Which cells learn which plate, and what they learn of it (SimOTA: Ge et al., "YOLOX", 2021; as YuNet is trained)."""

from __future__ import annotations

import torch
from network import decode, grid
from torch import Tensor
from torch.nn import functional

CENTRE_RADIUS = 1.5  # strides
CANDIDATES = 10


def pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """(..., G, A) of boxes (..., G, 4) and (..., A, 4)."""
    low = torch.maximum(one[..., :, None, :2], other[..., None, :, :2])
    high = torch.minimum(one[..., :, None, 2:], other[..., None, :, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area_one = (one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1)
    area_other = (other[..., 2:] - other[..., :2]).clamp(min=0).prod(-1)
    return inner / (area_one[..., :, None] + area_other[..., None, :] - inner + 1e-7)


def ciou(made: Tensor, wanted: Tensor) -> Tensor:
    """Complete IoU of pairs of boxes (K, 4) (Zheng et al., 2020)."""
    low, high = torch.maximum(made[:, :2], wanted[:, :2]), torch.minimum(made[:, 2:], wanted[:, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    size_m, size_w = made[:, 2:] - made[:, :2], wanted[:, 2:] - wanted[:, :2]
    iou = inner / (size_m.prod(-1) + size_w.prod(-1) - inner + 1e-7)
    around = torch.maximum(made[:, 2:], wanted[:, 2:]) - torch.minimum(made[:, :2], wanted[:, :2])
    apart = ((made[:, :2] + made[:, 2:] - wanted[:, :2] - wanted[:, 2:]) ** 2).sum(-1) / 4
    shape_w, shape_m = (
        torch.atan(size_w[:, 0] / (size_w[:, 1] + 1e-7)),
        torch.atan(size_m[:, 0] / (size_m[:, 1] + 1e-7)),
    )
    bent = 4 / torch.pi**2 * (shape_w - shape_m) ** 2
    weight = bent.detach() / (1 - iou.detach() + bent.detach() + 1e-7)
    return iou - apart / ((around**2).sum(-1) + 1e-7) - weight * bent


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, wanted: Tensor, there: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """For each cell the plate that it learns, or -1: (N, A). wanted: (N, G, 4); there: (N, G), which of them exist."""
    centres = (places + 0.5) * strides[:, None]
    middle = (wanted[..., :2] + wanted[..., 2:]) / 2
    offset = (centres[None, None] - middle[:, :, None]).abs().amax(-1) / strides
    near = offset < CENTRE_RADIUS
    inside = (
        (centres[None, None, :, 0] > wanted[:, :, None, 0])
        & (centres[None, None, :, 0] < wanted[:, :, None, 2])
        & (centres[None, None, :, 1] > wanted[:, :, None, 1])
        & (centres[None, None, :, 1] < wanted[:, :, None, 3])
    )
    allowed = (near | inside) & there[..., None]
    iou = pairwise_iou(wanted, boxes)
    cost = (
        -torch.log(scores[:, None].clamp(min=1e-6))
        - 3 * torch.log(iou.clamp(min=1e-6))
        + 1e5 * (~allowed).float()
        + 100.0 * (~(near & inside)).float()
        + 2.0 * (offset / CENTRE_RADIUS).clamp(max=10)
    )
    count = iou.masked_fill(~allowed, 0).topk(min(CANDIDATES, iou.shape[-1]), dim=-1).values.sum(-1).int().clamp(min=2)
    cheapest = cost.topk(min(CANDIDATES, cost.shape[-1]), dim=-1, largest=False).indices
    taken = torch.arange(cheapest.shape[-1], device=cost.device) < count[..., None]
    chosen = torch.zeros_like(allowed).scatter_(-1, cheapest, taken) & allowed
    best = cost.masked_fill(~chosen, torch.inf).min(dim=1)
    return torch.where(torch.isfinite(best.values), best.indices, torch.full_like(best.indices, -1))


def losses(
    made: tuple[Tensor, ...], quads: Tensor, there: Tensor, exact: Tensor, side: tuple[int, int]
) -> dict[str, Tensor]:
    """The parts of the loss of a batch. quads: (N, G, 4, 2) in pixels; there, exact: (N, G)."""
    cls, obj = torch.cat(made[0:3], 1)[..., 0].float(), torch.cat(made[3:6], 1)[..., 0].float()
    bbox, kps = torch.cat(made[6:9], 1).float(), torch.cat(made[9:12], 1).float()
    places, strides = grid(*side, cls.device)
    boxes, points = decode(bbox, kps, places, strides)
    wanted = torch.cat((quads.amin(2), quads.amax(2)), dim=-1)
    scores = (cls.detach().sigmoid() * obj.detach().sigmoid()).sqrt()
    plate_of = assign(scores, boxes.detach(), wanted, there, places, strides)
    image, cell = torch.nonzero(plate_of >= 0, as_tuple=True)
    plates = plate_of[image, cell]
    target = (plate_of >= 0).float()
    number = target.sum().clamp(min=1)
    weight = torch.where(target > 0, 1.0, 0.75)
    probability = obj.sigmoid()
    focus = torch.where(target > 0, (1 - probability).detach() ** 1.5 * 2, probability.detach() ** 1.5)
    found = {
        "obj": (functional.binary_cross_entropy_with_logits(obj, target, reduction="none") * focus * weight).sum()
        / number
    }
    quality = ciou(boxes[image, cell], wanted[image, plates])
    overlap = quality.detach().clamp(0, 1)
    found["cls"] = functional.binary_cross_entropy_with_logits(cls[image, cell], overlap, reduction="sum") / number
    found["box"] = 5 * (1 - quality).sum() / number
    corners = torch.cat((quads, quads.mean(2, keepdim=True)), dim=2)[image, plates]
    size = (wanted[image, plates, 2:] - wanted[image, plates, :2]).clamp(min=4)
    off = (points[image, cell] - corners) / size[:, None]
    known = exact[image, plates].float()
    apart = functional.smooth_l1_loss(off, torch.zeros_like(off), beta=0.05, reduction="none").sum((1, 2))
    # where only a box is known, the corners must at least span it
    reached = torch.cat((points[image, cell, :4].amin(1), points[image, cell, :4].amax(1)), dim=-1)
    span = (reached - wanted[image, plates]) / torch.cat((size, size), dim=-1)
    spanned = functional.smooth_l1_loss(span, torch.zeros_like(span), beta=0.05, reduction="none").sum(1)
    found["corners"] = (apart * known + 0.5 * spanned * (1 - known)).sum() / number
    return found
