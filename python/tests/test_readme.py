"""What the README, the pages of the site and the READMEs of other integrations show in Python, run as it stands."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "python" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("integrations/*/*.md")),
]
BLOCKS = {
    page.relative_to(ROOT).as_posix(): re.findall(
        r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S
    )
    for page in PAGES
}


@pytest.mark.parametrize(
    "page, least",
    [
        ("python/README.md", 3),
        ("docs/index.md", 1),
        ("docs/pytorch.md", 3),
        ("docs/numpy.md", 3),
        ("docs/mathematics.md", 2),
    ],
)
def test_there_are_blocks(page, least):
    assert len(BLOCKS[page]) >= least


@pytest.mark.parametrize(
    "page, number", [(page, number) for page, blocks in BLOCKS.items() for number in range(len(blocks))]
)
def test_block_runs(page, number):
    block = BLOCKS[page][number]
    code = compile(block, page, "exec")
    if "torch" in block and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: only compiled")
    exec(code, {})
