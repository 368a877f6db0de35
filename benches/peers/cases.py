"""What is measured: the cases, and how they are called."""

PAIRS = ("dot", "cosine", "euclidean")
CONVS = ("conv", "conv2d")
LOSSES = ("loss", "loss16", "centres", "ratings", "short")
# What the rows and labels of those are that take what `loss` takes.
DATA = {"short": "short rows", "centres": "five centres", "ratings": "continuous labels"}
FORWARD = "-forward"  # after the name of one of these: without going back
ANY = ("step", *LOSSES, *(op + end for op in (*CONVS, *PAIRS) for end in ("", FORWARD)))

SLIDES = [  # channels that a convolution spends its time in, and the network's first two layers
    ("conv", (32, 64, 128, 512, 5, 1)),  # batch, channels in and out, frames, taps, stride
    ("conv", (32, 128, 128, 512, 3, 1)),
    ("conv", (32, 256, 256, 512, 3, 1)),
    ("conv", (512, 1, 4, 1000, 7, 3)),
    ("conv", (512, 4, 8, 332, 7, 3)),
    ("conv2d", (32, 64, 64, 56, 3)),  # batch, channels in and out, height and width, taps
]
CASES = [  # op, sizes, repetitions per round
    ("step", (64, 1000), 15),
    ("step", (512, 1000), 4),
    *[("loss", (n, d), reps) for n, d, reps in ((1024, 16, 8), (1024, 128, 6), (4096, 16, 1), (4096, 128, 1))],
    *[(op, (4096, d), 1) for op in ("short", "centres", "ratings") for d in (16, 128)],
    *[(op + end, (2048, d), 3) for op in PAIRS for d in (16, 128, 512) for end in (FORWARD, "")],
    *[(op + end, sizes, 2) for op, sizes in SLIDES for end in (FORWARD, "")],
    # What is left of time and memory against N.
    *[("loss", (n, 128), reps) for n, reps in ((512, 8), (2048, 2))],
]
CASES_ON_CUDA = [  # what matters most first: a budget ends the list
    ("step", (64, 1000), 200),
    ("step", (512, 1000), 100),
    ("loss", (1024, 128), 50),
    ("loss", (4096, 128), 20),
    ("loss", (16384, 128), 5),
    ("loss16", (16384, 128), 5),
    ("conv", (512, 1, 4, 1000, 7, 3), 50),  # batch, channels in and out, frames, taps, stride
    ("conv", (512, 4, 8, 332, 7, 3), 50),
    ("conv", (512, 8, 16, 109, 7, 3), 50),
    ("conv", (32, 64, 128, 512, 5, 1), 50),
    ("euclidean", (16384, 128), 5),
    ("dot", (16384, 128), 5),
    ("cosine", (16384, 128), 5),
    ("loss", (1024, 16), 100),
    ("loss", (65536, 128), 2),
    ("loss16", (65536, 128), 2),
]
# Enough to see that all of it works.
CASES_TO_TRY = [("step", (64, 1000), 2), ("conv", (2, 1, 4, 50, 7, 3), 2), ("loss", (64, 16), 2), ("loss16", (64, 16), 2)] + [
    (kind, (48, 16), 2) for kind in PAIRS
]
HUGE = 32768  # rows whose N x N matrices several sides cannot hold at once


def seconds_of(op, sizes, card):
    """About what a case takes, on a card once its compilers are warm: enough to say whether it still fits."""
    if not card:
        return 60 if sizes[0] >= 4096 else 25
    if op == "conv":
        return 10
    return 75 if sizes[0] >= HUGE else 45 if op in PAIRS else 25


SHAPES = {
    "step": "B={} T={}",
    "conv": "B={} {}->{} T={} k={} s={}",
    "conv2d": "B={0} {1}->{2} {3}x{3} k={4}x{4}",
}


def shape(op, sizes):
    return SHAPES.get(op.removesuffix(FORWARD), "N={} D={}").format(*sizes)


def title(op, sizes):
    name = {"loss16": "loss, bf16 rows", **{kind: f"loss, {what}" for kind, what in DATA.items()}}.get(op, op)
    return f"{name.replace(FORWARD, ' forward')} {shape(op, sizes)}"
