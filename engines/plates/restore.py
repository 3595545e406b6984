"""Turn an exported network back into one that training can go on from: batch norms are unfolded again.

    python engines/plates/restore.py --onnx engines/plates/plates.onnx --data ../shared --fonts /usr/share/fonts/truetype \
        --out build/plates/start/final

Folding leaves of each norm only what it does on the whole, a bias; what training needs of it as well, the mean and spread of
what reaches it, is measured on training pictures. The restored network says exactly the same as the exported one.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import torch
from network import PlateNet
from onnx import numpy_helper
from scenes import Settings
from torch import Tensor, nn
from torch.utils.data import DataLoader
from train import FINAL, Scenes

PICTURES = 256


def unfolded(file: Path, pictures: Tensor) -> PlateNet:
    """The network of an ONNX file. pictures: (N, 3, H, W) BGR, what its norms are measured on."""
    graph = onnx.load(file).graph
    values = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer}
    net = PlateNet().eval()
    net.scale.running_mean.copy_(values["net.scale.running_mean"])
    net.scale.running_var.copy_(values["net.scale.running_var"])
    norm_of: dict[nn.Module, nn.BatchNorm2d] = {}
    for block in net.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            norm_of[block[0]] = block[1]
    called: list[nn.Conv2d] = []
    hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        net(pictures[:1])
    for hook in hooks:
        hook.remove()
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for conv, node in zip(called, nodes, strict=True):
        conv.weight.data.copy_(values[node.input[1]])
        bias = values[node.input[2]]
        norm = norm_of.get(conv)
        if norm is None:
            conv.bias.data.copy_(bias)
        else:  # until its turn comes, a norm only adds
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.data.fill_(1)
            norm.bias.data.copy_(bias)

    def measure(norm: nn.BatchNorm2d, reaching: Tensor) -> None:
        mean, var = reaching.mean((0, 2, 3)), reaching.var((0, 2, 3), unbiased=False)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.data.copy_((var + norm.eps).sqrt())
        norm.bias.data.add_(mean)

    hooks = [norm.register_forward_pre_hook(lambda m, given: measure(m, given[0])) for norm in norm_of.values()]
    with torch.no_grad():
        net(pictures)
    for hook in hooks:
        hook.remove()
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--fonts", type=Path, action="append", required=True)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--out", type=Path, required=True, help="folder that gets weights.pt")
    arguments = parser.parse_args()
    scenes = Scenes(arguments.data, arguments.fonts, FINAL, Settings(side_px=arguments.side), seed=0, mistaken=None)
    pixels = np.stack([sample[0] for sample in islice(DataLoader(scenes, batch_size=None), PICTURES)])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    net = unfolded(arguments.onnx, pictures)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), arguments.out / "weights.pt")


if __name__ == "__main__":
    main()
