"""The two heads and their training, one fold at a time."""

import math

import torch
from torch import nn
from torch.nn import functional

WIDTH = 128  # columns of a path
VIEWS = 24
EPOCHS, WARM_UP, BATCH = 50, 2, 64
RATE, DECAY = 2e-3, 1e-4
WEIGHT, MARGIN, BINS = 0.1, 2.0, 5  # of the contrastive loss; without weight it is left out


class Heads(nn.Module):
    """The path head's convolutions are 2D ones of height 1: as such they take (take, column, channel) as it lies.

    torch.compile saves 0.8 ms of a step's 6 and costs 20 s: it is left out.
    """

    def __init__(self, channels, features):
        super().__init__()
        layers, wide = [], channels
        for width, taps in ((32, 7), (64, 5), (64, 3)):
            layers += [
                nn.Conv2d(wide, width, (1, taps), stride=(1, 2), padding=(0, taps // 2), bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            wide = width
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.grade = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(wide, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1), nn.Sigmoid()
        )
        self.notes = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(features, 32),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(32, 1),
            nn.Sigmoid(),
        )
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))

    def standardise(self, features):
        self.mean, self.sd = features.mean(0), features.std(0, correction=0)

    def embed(self, x):
        return self.convolutions(x.transpose(1, 2)[:, :, None]).mean((2, 3))

    def path(self, embedding):
        return self.grade(embedding)[:, 0]

    def note(self, features):
        return self.notes(((features - self.mean) / (self.sd + 1e-6)).clamp(-2.5, 2.5))[:, 0]


def contrastive(embedding, rating):
    """Over the pairs of takes: half the squared distance where they are of one bin, else half the square of what it falls
    short of the margin, which is per bin that they are apart."""
    bins = (BINS * rating + 1e-6).floor().clamp(max=BINS - 1)
    apart = functional.pdist(bins[:, None], p=1)
    distance = functional.pdist(embedding)
    cost = torch.where(apart == 0, distance, (MARGIN * apart - distance).relu())
    return 0.5 * cost.square().mean()


class Takes:
    """Paths of all takes end to end: (step, channel); `first` and `steps` are by (take, view)."""

    def __init__(self, columns, first, steps, views, features, rating):
        self.columns, self.first, self.steps, self.views = columns, first, steps, views
        self.features, self.rating = features, rating

    def view(self, take, view, start, share):
        """(take, `WIDTH`, channel): the nearest columns of the `share` of each path from `start` on, parts of 1."""
        steps = self.steps[take, view]
        at = start[:, None] + share[:, None] * ((torch.arange(WIDTH) + 0.5) / WIDTH)
        index = (at * steps[:, None]).long().minimum(steps[:, None] - 1) + self.first[take, view, None]
        return self.columns[index]

    def random_view(self, take):
        view = (torch.rand(len(take)) * self.views[take]).long()
        share = 0.8 + 0.2 * torch.rand(len(take))
        return self.view(take, view, torch.rand(len(take)) * (1 - share), share)


def train(takes, train_set, test_set, seed, weight=WEIGHT):
    """Predictions of the test takes. Nothing is set aside: the model is the last epoch's, at learning rate 0."""
    torch.manual_seed(seed)
    model = Heads(takes.columns.shape[1], takes.features.shape[1])
    model.standardise(takes.features[train_set])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    batches = -(-len(train_set) // BATCH)
    warm_up, steps = WARM_UP * batches, EPOCHS * batches

    def rate(step):
        if step < warm_up:
            return (step + 1) / warm_up
        return (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in range(EPOCHS):
        # Batches of nearly one size: batch norm sees no rest of a few takes.
        for batch in train_set[torch.randperm(len(train_set))].tensor_split(batches):
            rating = takes.rating[batch]
            embedding = model.embed(takes.random_view(batch))
            loss = 0.5 * functional.mse_loss(model.path(embedding), rating)
            loss = loss + 0.5 * functional.mse_loss(model.note(takes.features[batch]), rating)
            if weight > 0:
                loss = loss + weight * contrastive(embedding, rating)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return predict(model, takes, test_set)


@torch.no_grad()
def predict(model, takes, test_set):
    model.eval()
    take, view = torch.nonzero(torch.arange(VIEWS) < takes.views[test_set, None], as_tuple=True)
    whole = torch.ones(len(take))
    one = model.path(model.embed(takes.view(test_set[take], view, 0 * whole, whole)))
    path = torch.zeros(len(test_set)).index_add(0, take, one) / takes.views[test_set]
    return (path + model.note(takes.features[test_set])) / 2
