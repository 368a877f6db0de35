"""
Three losses for ratings
========================

An encoder is trained by one loss alone, with no grade asked of it: the contrastive loss, which wants
distances, Rank-N-Contrast, which wants an order, and InfoNCE, which wants neighbours. What each makes of
the same takes, side by side. Takes PyTorch.
"""

import etude
import etude.nn
import matplotlib.pyplot as plt
import torch

# %%
# Performances are made up: a melody, and how it was sung. The better the take, the nearer its notes are
# to what is written.


def takes(count, seed, notes=12, frames=8):
    random = torch.Generator().manual_seed(seed)
    ratings = torch.rand(count, generator=random)
    written = 4 * torch.randn(count, notes, generator=random)
    off = 0.9 * (1 - ratings[:, None]) * torch.randn(count, notes, generator=random)
    both = torch.stack([written + off, written], 1).repeat_interleave(frames, 2)
    return both + 0.1 * torch.randn(both.shape, generator=random), ratings


torch.set_num_threads(1)  # so small a network gains nothing by more
(contours, ratings), (unheard, of_unheard) = takes(600, seed=1), takes(300, seed=2)

# %%
# The encoder makes eight columns. The contrastive loss takes bins of ratings, the others ratings as they are: to
# Rank-N-Contrast only their order counts, and InfoNCE is told what is near, here 0.1.


def trained(loss):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        etude.nn.Conv1d(2, 16, 5, padding="same"),
        torch.nn.ReLU(),
        etude.nn.Conv1d(16, 16, 5, stride=3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool1d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 8),
    )
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=5e-3)
    for epoch in range(60):
        for batch in torch.randperm(len(ratings)).split(100):
            value = loss(encoder(contours[batch]), ratings[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    with torch.no_grad():
        return encoder(contours), encoder(unheard)


contrastive = etude.nn.ContrastiveLoss()
losses = {
    "the contrastive loss": lambda z, y: contrastive(z, etude.bins(y, 5)),
    "Rank-N-Contrast": etude.nn.RankNContrastLoss(),
    "InfoNCE": etude.nn.InfoNCELoss(sigma=0.1),
}

# %%
# Above are the first two principal axes of takes that no encoder has heard, to one scale; InfoNCE looks at directions
# alone, so that its rows are taken at length 1. Below are the distances of any two takes, by how far apart their
# ratings are. R² is of ratings by a linear regression on the columns, as the training takes give it.
#
# The contrastive loss and Rank-N-Contrast lay takes out on a line, the better to one end. InfoNCE, whose rows are on a
# sphere, asks only that those of like ratings are nearest: an arc does.

apart = (of_unheard[:, None] - of_unheard).abs()
once = torch.ones(300, 300).triu(1) > 0
figure, panels = plt.subplots(2, 3, figsize=(11, 7), layout="constrained", height_ratios=(3, 2))
for (above, below), (name, loss) in zip(panels.T, losses.items()):
    known, z = trained(loss)
    if name == "InfoNCE":
        known, z = (torch.nn.functional.normalize(of) for of in (known, z))
    columns, of_known = (torch.cat((of, torch.ones(len(of), 1)), 1) for of in (z, known))
    grades = columns @ torch.linalg.lstsq(of_known, ratings[:, None]).solution
    r2 = 1 - (grades[:, 0] - of_unheard).square().mean() / of_unheard.var(correction=0)
    print(f"{name}: R² {r2:.2f}")

    centred = z - z.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    points = above.scatter(*(centred @ axes[:2].T).T, c=of_unheard, cmap="viridis", s=20)
    above.set(title=f"{name}: R² {r2:.2f}", xlabel="first axis", ylabel="second axis", aspect="equal")
    above.set_adjustable("datalim")

    distances = etude.pairwise_similarity(z, z, "euclidean")
    fifths = [distances[once & ((apart * 5).floor() == k)].numpy() for k in range(5)]
    below.boxplot(fifths, positions=[0.1, 0.3, 0.5, 0.7, 0.9], widths=0.12, showfliers=False)
    below.set_xlim(0, 1)
    below.set(xlabel="difference of ratings", ylabel="distance of embeddings")
figure.colorbar(points, ax=panels[0], label="rating", shrink=0.8)
plt.show()
