"""
Two losses, two embeddings
==========================

A small encoder is trained in PyTorch to grade performances: once by the squared error of its
grade alone, and once with the contrastive loss beside it. Takes PyTorch.
"""

import etude
import etude.nn
import matplotlib.pyplot as plt
import torch

# %%
# Performances are made up: a melody, and how it was sung. The better the take, the nearer its
# notes are to what is written.


def takes(count, seed, notes=12, frames=8):
    random = torch.Generator().manual_seed(seed)
    ratings = torch.rand(count, generator=random)
    written = 4 * torch.randn(count, notes, generator=random)
    off = 0.9 * (1 - ratings[:, None]) * torch.randn(count, notes, generator=random)
    both = torch.stack([written + off, written], 1).repeat_interleave(frames, 2)
    return both + 0.1 * torch.randn(both.shape, generator=random), ratings


torch.set_num_threads(1)  # so small a network gains nothing by more
training, unheard = takes(600, seed=1), takes(300, seed=2)

# %%
# The encoder makes eight columns of embedding, and a linear layer a grade of them.


def trained(contrast):
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
    head = torch.nn.Linear(8, 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3)
    contrastive = etude.nn.ContrastiveLoss(margin=0.5)
    contours, ratings = training
    for epoch in range(30):
        for batch in torch.randperm(len(ratings)).split(100):
            z = encoder(contours[batch])
            loss = torch.nn.functional.mse_loss(head(z)[:, 0], ratings[batch])
            loss = loss + contrast * contrastive(z, etude.bins(ratings[batch], 5))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        z = encoder(unheard[0])
        return z, head(z)[:, 0]


results = {"squared error alone": trained(0.0), "with the contrastive loss": trained(1.0)}

# %%
# Both grade takes that they never heard about equally well. Above are the first two principal
# axes of the embeddings, to one scale; below the distances of pairs by the difference of their
# bins. The squared error asks only that some direction tells the rating; how far apart takes lie is
# nobody's business. The contrastive loss asks for the distances that are dashed: none for takes of
# one bin, and at least half a unit a bin for others.

ratings = unheard[1]
bins = etude.bins(ratings, 5)
apart = (bins[:, None] - bins).abs()
once = torch.ones(300, 300).triu(1) > 0
shared = {"sharex": "row", "sharey": "row", "height_ratios": (3, 2)}
figure, panels = plt.subplots(2, 2, figsize=(10, 7), layout="constrained", **shared)
for (above, below), (name, (z, grades)) in zip(panels.T, results.items()):
    r2 = 1 - (grades - ratings).square().mean() / ratings.var(correction=0)
    print(f"{name}: R² {r2:.2f}")

    centred = z - z.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    points = above.scatter(*(centred @ axes[:2].T).T, c=ratings, cmap="viridis", s=20)
    above.set(title=f"{name}: R² {r2:.2f}", xlabel="first axis", ylabel="second axis")

    distances = etude.pairwise_similarity(z, z, "euclidean")
    by_bins = [distances[once & (apart == w)].numpy() for w in range(5)]
    below.boxplot(by_bins, positions=range(5), showfliers=False)
    below.plot(range(5), [0.5 * w for w in range(5)], "--", color="tab:red")
    below.set(xlabel="bins apart", ylabel="distance of embeddings")
figure.colorbar(points, ax=panels[0], label="rating", shrink=0.8)
plt.show()
