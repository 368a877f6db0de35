"""
A melody against itself
=======================

A self-similarity matrix compares every moment of a performance with every other. What is sung
again shows as a stripe beside the diagonal; which kinds of "again" it sees depends on the measure.
"""

import etude
import matplotlib.pyplot as plt
import numpy as np

# %%
# The pitch contour of a melody in four phrases, forty frames a second: a phrase, a second one, the
# first again, and the first a fifth higher. It is sung with vibrato, and not quite in time or in
# tune.

rng = np.random.default_rng(2)
first = [(60, 2), (64, 2), (67, 4), (69, 1), (67, 1), (64, 2), (65, 2), (62, 2), (60, 4)]
second = [(67, 3), (66, 1), (67, 2), (72, 4), (71, 2), (69, 2), (68, 2), (69, 2), (67, 2)]
higher = [(pitch + 7, length) for pitch, length in first]


def sung(note, length):
    frames = int(6 * length * rng.uniform(0.95, 1.05))
    return np.full(frames, note + 0.15 * rng.standard_normal())


phrases = [*first, *second, *first, *higher]
pitch = np.concatenate([sung(note, length) for note, length in phrases])
# A voice slides from note to note.
pitch = np.convolve(np.pad(pitch, 3, mode="edge"), np.full(7, 1 / 7), "valid")
time = np.arange(len(pitch)) / 40
pitch += 0.15 * np.sin(2 * np.pi * 5.5 * time)

# %%
# A single frame says little: one has to look at a stretch. Row ``i`` of ``stretches`` is the second
# and a half that begins at frame ``i``; ``shapes`` are the same without their means, and so without
# the key that they were sung in.

frames = 60
stretches = np.lib.stride_tricks.sliding_window_view(pitch, frames).astype(np.float32)
shapes = stretches - stretches.mean(1, keepdims=True)

distance = etude.pairwise_similarity(stretches, stretches, "euclidean") / np.sqrt(frames)
cosine = etude.pairwise_similarity(shapes, shapes, "cosine")

# %%
# The Euclidean distance of the stretches sees the first phrase come again: a dark stripe beside the
# diagonal. It takes the higher one for something else. The cosine of the shapes sees both: of what
# is sung in another key only the shape is the same.

figure = plt.figure(figsize=(10, 7), layout="constrained")
places = [["pitch", "pitch"], ["distance", "cosine"]]
panels = figure.subplot_mosaic(places, height_ratios=(1, 3))
panels["pitch"].plot(time, pitch, linewidth=1.5)
panels["pitch"].set(title="pitch, MIDI notes", xlim=(0, time[-1]))
end = len(stretches) / 40
drawn = {"distance": (distance, "magma", 0, 8), "cosine": (cosine, "viridis", 0, 1)}
for name, (matrix, colours, low, high) in drawn.items():
    panel = panels[name]
    where = {"origin": "lower", "extent": (0, end, 0, end)}
    image = panel.imshow(matrix, cmap=colours, vmin=low, vmax=high, **where)
    panel.set(xlabel="stretch from here, s", ylabel="stretch from here, s")
    figure.colorbar(image, ax=panel, shrink=0.8)
panels["distance"].set_title("Euclidean distance, semitones")
panels["cosine"].set_title("cosine similarity of shapes")
plt.show()

# %%
# Both matrices have every pair of stretches; ``etude.pairwise_similarity_backward`` takes a gradient
# by such a matrix back to its rows.
