"""The picture of mathematics.md: what a pair costs at each distance, and its slope, as the kernel computes both.

    python docs/pair_loss.py FOLDER

Writes pair_loss_light.png and pair_loss_dark.png.
"""

import pathlib
import sys

import etude
import matplotlib.pyplot as plt
import numpy as np

MARGIN, LABELS = 0.5, range(5)
DISTANCES = np.linspace(0, 2.5, 501, dtype=np.float32)


def pair(distance, label):
    """Loss and slope of one pair: two rows of one column, a distance apart."""
    rows, labels = np.array([[0], [distance]], np.float32), np.array([0, label], np.float32)
    loss, gradient = etude.contrastive_loss_and_grad(rows, labels, margin=MARGIN)
    return loss, gradient[1, 0]


def draw(path, style, face):
    with plt.style.context(style):
        figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", facecolor=face)
        colours = plt.get_cmap("viridis")(np.linspace(0.2, 0.95, len(LABELS)))
        for label, colour in zip(LABELS, colours):
            curves = np.array([pair(distance, label) for distance in DISTANCES])
            # At distance 0 the gradient of a hinge is 0 by convention: a point, not the curve's end.
            curves[0, 1] = np.nan if label else 0
            name = "alike (w = 0)" if label == 0 else f"w = {label}"
            for panel, values in zip(panels, curves.T):
                panel.plot(DISTANCES, values, color=colour, label=name, linewidth=2)
        for panel, title in zip(panels, ("loss of the pair", "its slope: above 0 pulls, below 0 pushes")):
            panel.set(title=title, xlabel="distance d of the embeddings", facecolor=face)
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(alpha=0.2)
        panels[1].axhline(0, color="gray", linewidth=0.8)
        panels[0].set_ylim(0, 2.2)
        panels[0].legend(title=f"labels, margin {MARGIN}", frameon=False)
        figure.savefig(path, dpi=160, facecolor=face)
        plt.close(figure)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    draw(folder / "pair_loss_light.png", "default", "#ffffff")
    draw(folder / "pair_loss_dark.png", "dark_background", "#131416")
