"""
Pull and push
=============

The label-distance-weighted contrastive loss pulls embeddings with alike labels together and
pushes others apart, the further the more their labels differ. In two dimensions one can watch it.
"""

import etude
import matplotlib.pyplot as plt
import numpy as np

# %%
# Sixty performances, rated from 0 to 1. Their embeddings know a little of the ratings: a trend,
# and much noise.

rng = np.random.default_rng(4)
ratings = rng.random(60)
labels = etude.bins(ratings, 5)
z = 0.45 * rng.standard_normal((60, 2))
z[:, 0] += ratings

loss, gradient = etude.contrastive_loss_and_grad(z, labels, margin=0.5)
print(f"loss {loss:.3f}")

# %%
# The gradient points uphill, so each row goes against it. Colours are the five bins of the
# ratings. A row is drawn to those of its own colour, and pushed away from those of another that
# are nearer than the margin times the distance of their bins.


def show(panel, z, title):
    panel.scatter(*z.T, c=labels, cmap="viridis", s=45, edgecolors="white", zorder=3)
    panel.set(title=title, aspect="equal", xticks=[], yticks=[])


figure, panel = plt.subplots(figsize=(7, 5.2), layout="constrained")
show(panel, z, "where each embedding is drawn")
arrows = {"angles": "xy", "scale_units": "xy", "scale": 0.045, "width": 0.003}
panel.quiver(*z.T, *-gradient.T, color="0.45", **arrows)
plt.show()

# %%
# And so they go. The loss is a mean over 1,770 pairs: a row's part in it is small, and the step
# long. In the end each bin is a point of its own, and the loss is 0: bins next to each other are at
# least 0.5 apart, the first and the last at least 2. Where beyond that they are does not matter.

path = [z]
for step in range(400):
    loss, gradient = etude.contrastive_loss_and_grad(path[-1], labels, margin=0.5)
    path.append(path[-1] - 15 * gradient)

figure, panels = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
for panel, step in zip(panels, (0, 5, 400)):
    loss = etude.contrastive_loss(path[step], labels, margin=0.5)
    show(panel, path[step], f"after {step} steps: loss {loss:.3f}")
    way = np.array(path[: step + 1])
    panel.plot(way[..., 0], way[..., 1], color="0.8", linewidth=0.7)
    panel.set(xlim=(-1.2, 2.2), ylim=(-1.6, 1.6))
colours = plt.cm.ScalarMappable(plt.Normalize(-0.5, 4.5), plt.get_cmap("viridis", 5))
figure.colorbar(colours, ax=panels, label="bin of the rating", ticks=range(5), shrink=0.8)
plt.show()
