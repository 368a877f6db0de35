"""
What a judge minds
==================

``etude.Grader`` learns to grade performances from graded ones. Here two judges hear the same takes: one
minds wrong notes, the other minds time. A grader learns from each, and grades takes that it never heard.
"""

import etude
import matplotlib.pyplot as plt
import numpy as np

# %%
# A melody is sung 160 times, in one key or another, with some wrong notes and in unsteady time. A
# take is an array of f0 in Hz, a hundred numbers a second; it is compared with the melody as it is
# written.

rng = np.random.default_rng(1)
melody = np.array([60, 62, 64, 65, 67, 65, 64, 62, 60, 67, 64, 60])


def sung(notes, seconds):
    f0 = 440 * 2 ** ((notes - 69) / 12)
    held = [np.append(np.full(int(100 * s), hz), [0, 0]) for hz, s in zip(f0, seconds)]
    return np.concatenate(held)


written = sung(melody, np.full(12, 0.4))
takes, right, steady = [], [], []
for i in range(160):
    wrong = rng.random(12) < 0.6 * rng.random()
    off = wrong * rng.choice([-2, -1, 1, 2], 12) + 0.1 * rng.standard_normal(12)
    notes = melody + rng.integers(-5, 6) + off
    unsteady = 0.6 * rng.random()
    seconds = 0.4 * np.exp(unsteady * rng.standard_normal(12))
    singer = f"singer {i % 20}"
    takes.append(etude.Take(sung(notes, seconds), references=written, performer=singer))
    right.append(1 - wrong.mean())
    steady.append(1 - np.log(seconds).std())

# %%
# A grader learns from 120 takes and what its judge gave them; forty by other singers are left.

judges = {"minds wrong notes": np.array(right), "minds time": np.array(steady)}
learn = [i for i in range(160) if i % 20 < 15]
test = [i for i in range(160) if i % 20 >= 15]
grades = {}
for judge, ratings in judges.items():
    grader = etude.Grader(f0_hop=0.01).fit([takes[i] for i in learn], ratings[learn])
    grades[judge] = grader.predict([takes[i] for i in test])

# %%
# Each learned what its judge minds. The model that comes with Etude, on the right, has learned from
# no judge: its grade is the share of notes without an error, of pitch or of time.

unheard = [takes[i] for i in test]
grades["comes with Etude"] = etude.Grader.load(f0_hop=0.01).predict(unheard)

figure, panels = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharey=True)
for panel, (judge, made) in zip(panels, grades.items()):
    given = judges.get(judge, judges["minds wrong notes"])[test]
    points = panel.scatter(given, made, c=np.array(steady)[test], cmap="viridis", s=45)
    panel.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
    panel.set(title=judge, xlabel="share of right pitches", aspect="equal")
    if judge in judges:
        r2 = 1 - ((made - given) ** 2).mean() / given.var()
        panel.set(title=f"{judge}: R² {r2:.2f}", xlabel="the judge's")
        print(f"{judge}: R² {r2:.2f}")
panels[0].set_ylabel("the grader's")
figure.colorbar(points, ax=panels, label="how steady in time", shrink=0.8)
plt.show()
