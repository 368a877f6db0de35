#!/usr/bin/env python3
"""The ceilings of a card as PyTorch reaches them: a large copy, and large matrix products by cuBLAS. One JSON line."""

import json
import sys
import time

import torch

device, rounds = sys.argv[1], 9
small = device == "cpu"
wait = torch.cuda.synchronize if device == "cuda" else lambda: None


def seconds(run, repeats):
    """The median of several spans of repeats."""
    run(), wait()
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        wait()
        spans.append((time.perf_counter() - start) / repeats)
    return sorted(spans)[rounds // 2]


def product(n, dtype, tf32=False):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty(n, n, device=device, dtype=dtype)
    return 2 * n**3 / seconds(lambda: torch.matmul(a, b, out=out), 1 if small else 10) / 1e12


n = 1 << 20 if small else 1 << 28
source = torch.randn(n, device=device)
target = torch.empty_like(source)
copy = 8 * n / seconds(lambda: target.copy_(source), 1 if small else 10) / 1e9
del source, target
side = 256 if small else 8192
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if not small else None,
            "copy_gb_s": copy,
            "f32_tflop_s": product(side, torch.float32),
            "tf32_tflop_s": product(side, torch.float32, True),
            "bf16_tflop_s": product(side, torch.bfloat16),
            "f16_tflop_s": product(side, torch.float16) if not small else None,
            "how": f"copy of {4 * n} bytes, products of {side} x {side}",
        }
    )
)
