"""What the README, the pages of the site and the READMEs of other integrations show in Python, run as it stands."""

import importlib.util
import pathlib
import re

import pytest

# `python`, or what `scripts/gpu-bundle` makes of it for a card: there the README is alone.
PACKAGE = pathlib.Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
SITE = sorted(ROOT.glob("docs/*.md"))
PAGES = {
    "python/README.md": PACKAGE / "README.md",
    **{
        page.relative_to(ROOT).as_posix(): page for page in (*SITE, *sorted(ROOT.glob("integrations/*/*.md")))
    },
}
BLOCKS = {
    name: re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S)
    for name, page in PAGES.items()
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
    if page.startswith("docs/") and not SITE:
        pytest.skip("the site's pages are not here")
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
