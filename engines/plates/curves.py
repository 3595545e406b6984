"""Draw the curves of training.

    python engines/plates/curves.py --history engines/plates/history.json --plot engines/plates/curves.png

`history.json` holds, by run and network, what `train.py` writes into each network's own `history.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

PARTS = ("obj", "cls", "box", "corners")
STYLES = {"first": "-", "second": "--", "third": ":", "fourth": "-.", "fifth": (0, (1, 3))}
"""Of runs: two on a GPU, two on a CPU, and one on a GPU, each with other shares of pictures, so that their losses are not to be
compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=Path, default=Path(__file__).with_name("history.json"))
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_name("curves.png"))
    arguments = parser.parse_args()
    history = json.loads(arguments.history.read_text())
    figure, axes = plt.subplots(1, len(PARTS), figsize=(14, 3.4), layout="constrained")
    networks = list(dict.fromkeys(name.split()[1] for name in history))
    for place, part in enumerate(PARTS):
        for name, rows in history.items():
            run, network = name.split()
            steps = [row["step"] for row in rows]
            losses, colour = [row[part] for row in rows], f"C{networks.index(network)}"
            axes[place].plot(steps, losses, linestyle=STYLES[run], color=colour, label=f"{network}, {run} run")
        axes[place].set(title=f"loss: {part}", xlabel="steps of the run", yscale="log")
        axes[place].grid(alpha=0.3, which="both")
    axes[-1].legend(fontsize=6, ncols=2)
    figure.savefig(arguments.plot, dpi=90)


if __name__ == "__main__":
    main()
