"""Sphinx's settings, for `scripts/docs`, which lays out what Sphinx reads with `stage.py` first."""

import functools
import json
import os
import pathlib
import re
import subprocess

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

DOCS = pathlib.Path(__file__).resolve().parent
WORK = pathlib.Path(os.environ["ETUDE_DOCS_WORK"])
log = logging.getLogger(__name__)

project = "Etude"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
smartquotes_action = "D"  # dashes alone
default_role = "code"  # as docstrings mean it
# What is not Etude's is documented elsewhere, and what is private is not.
nitpick_ignore_regex = [("py:.*", r"(?!etude\.).*|etude\.(.*\.)?_.*")]

myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "Etude"
html_css_files = ["katex/katex.min.css", "site.css"]
html_static_path = ["static", str(WORK / "static")]
html_extra_path = [str(WORK / "extra")]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

copybutton_exclude = ".linenos, .gp"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "exclude-members": "extra_repr",
    "show-inheritance": True,
}
autodoc_inherit_docstrings = False
napoleon_use_rtype = False  # what stands before the colon is no type

sphinx_gallery_conf = {
    "examples_dirs": str(DOCS.parent / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    # Of two builds every byte is the same: no times.
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "image_srcset": ["2x"],
}


KATEX = """
const katex = require(process.argv[1]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [source, displayMode] = JSON.parse(line);
  console.log(JSON.stringify(katex.renderToString(source, { displayMode, strict: "error" })));
});
"""


@functools.cache
def katex():
    command = ["node", "-e", KATEX, str(WORK / "static" / "katex" / "katex.js")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def drawn(source, display):
    """A formula as KaTeX lays it out: here, once, so that a page needs no script and nothing from elsewhere."""
    process = katex()
    process.stdin.write(json.dumps([source, display]) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"KaTeX does not know: {source}"
    return json.loads(line)


def visit_inline(self, node):
    self.body.append(drawn(node.astext(), False))
    raise nodes.SkipNode


def visit_block(self, node):
    self.body.append(f'<div class="math">{drawn(node.astext(), True)}</div>\n')
    raise nodes.SkipNode


class Rust(SphinxRole):
    """`etude::contrastive::all`, linked to rustdoc's page of it."""

    def run(self):
        rust = WORK / "extra"
        *modules, name = self.text.split("::")
        folder = "/".join(["rust", *modules])
        kinds = ("fn", "struct", "enum", "trait", "constant", "macro", "type")
        pages = [f"{folder}/{name}/index.html", *(f"{folder}/{kind}.{name}.html" for kind in kinds)]
        page = next((page for page in pages if (rust / page).exists()), None)
        if page is None:
            log.warning("rustdoc has no page of %s", self.text, location=self.get_location())
            return [nodes.literal(text=self.text)], []
        up = "../" * self.env.docname.count("/")
        return [nodes.reference("", "", nodes.literal(text=self.text), refuri=up + page, internal=True)], []


def one_download(app, docname, source):
    """Of the gallery's scripts one can have the script; an archive of it would hold the time."""
    if docname.startswith("gallery/"):
        kinds = r" *\.\. container:: sphx-glr-download sphx-glr-download-(jupyter|zip)\n\n *:download:.*\n"
        source[0] = re.sub(kinds, "", source[0])


def setup(app):
    app.connect("source-read", one_download)
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.add_role("rust", Rust())


html_math_renderer = "katex"
