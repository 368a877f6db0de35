"""Grades of performances in PyTorch Lightning: a small CNN over pitch contours, whose embedding a contrastive loss shapes.

    pip install ./python torch lightning
    python examples/grade_with_lightning.py

Takes are made up here: a melody, sung with notes that are off by more the worse the take is. The loss is the squared
error of the grade plus a tenth of the contrastive loss, over the pairs in a batch and those with the samples before it.
"""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import etude.nn


def takes(count, seed, notes=20, frames=25):
    """`[count, 2, T]`: what was sung and what is written, in semitones; and grades `[count]` from 0 to 1."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=random)  # noqa: E731
    grades = torch.rand(count, generator=random)
    written = 4 * normal(count, notes)
    off = 0.8 * (1 - grades[:, None]) * normal(count, notes)
    sung, written = (t.repeat_interleave(frames, 1) for t in (written + off, written))
    vibrato = 0.2 * torch.sin(torch.arange(notes * frames) * 0.8 + 6 * torch.rand(count, 1, generator=random))
    return torch.stack([sung + vibrato, written], 1), grades


class Grader(lightning.LightningModule):
    def __init__(self, columns=16):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            etude.nn.Conv1d(2, 8, 7, padding="same"),
            torch.nn.ReLU(),
            etude.nn.Conv1d(8, 16, 7, stride=3),
            torch.nn.ReLU(),
            etude.nn.Conv1d(16, columns, 7, stride=3),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool1d(1),
            torch.nn.Flatten(),
        )
        self.head = torch.nn.Linear(columns, 1)
        self.contrastive = etude.nn.ContrastiveMemoryLoss(size=256, columns=columns)

    def forward(self, contours):
        return self.head(self.encoder(contours))[:, 0]

    def training_step(self, batch, _):
        contours, grades = batch
        z = self.encoder(contours)
        error = torch.nn.functional.mse_loss(self.head(z)[:, 0], grades)
        contrast = self.contrastive(z, etude.bins(grades, 5))
        self.log_dict({"error": error, "contrast": contrast}, prog_bar=True)
        return error + 0.1 * contrast

    def validation_step(self, batch, _):
        contours, grades = batch
        unexplained = (self(contours) - grades).square().sum() / (grades - grades.mean()).square().sum()
        self.log("r2", 1 - unexplained, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 3e-3)


def main():
    lightning.seed_everything(0)
    training = DataLoader(TensorDataset(*takes(800, seed=1)), batch_size=64, shuffle=True)
    unheard = DataLoader(TensorDataset(*takes(200, seed=2)), batch_size=200)
    model = Grader()
    trainer = lightning.Trainer(max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, training)
    (measured,) = trainer.validate(model, unheard, verbose=False)
    print(f"R² of 200 takes that it never heard: {measured['r2']:.2f}")
    return measured["r2"]


if __name__ == "__main__":
    main()
