"""Find what a network takes for plates in pictures that have none, so that the next one learns that it is none.

    python engines/plates/mistaken.py --data ../shared --network build/plates/base.onnx --result build/plates/mistaken.json

Looks at the training half of the pictures without plates, at two sizes; the other half is for judging. The result, boxes by
picture, goes to `train.py --mistaken`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from data import load_others
from judge import Network, together

SIDES = (640, 1024)
MOST = 12  # of a picture, the worst first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    arguments = parser.parse_args()
    network, mistaken = Network(arguments.network), {}
    for photo in load_others(arguments.data, judged=False):
        found = together([network.find(photo.pixels, side) for side in SIDES])
        if len(found.boxes):
            mistaken[photo.name] = found.boxes[:MOST].round(1).tolist()
    arguments.result.write_text(json.dumps(mistaken))
    print(f"{sum(map(len, mistaken.values()))} mistakes in {len(mistaken)} pictures")


if __name__ == "__main__":
    main()
