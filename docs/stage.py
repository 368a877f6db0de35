"""Lays out what Sphinx reads: the pages of this folder, with the parts of the repository's documents that they include.

    python docs/stage.py SOURCE

A README stands where its code is, and is a page of the site too; it is not written twice. So `include` is done here,
which knows from which file a text came: a link in it leads to the page that shows what it names, or else to a copy of
that file as a page under `files/`. Sphinx then finds no link that leads nowhere.
"""

import itertools
import os
import pathlib
import re
import shutil
import sys

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
DIRECTIVE = re.compile(r"^:::\{(include|literalinclude)\} (\S+)\n((?::\S+:.*\n)*):::$", re.M)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)```(.*)$")
LANGUAGES = {
    "cu": "cuda",
    "cuh": "cuda",
    "h": "c",
    "py": "python",
    "rs": "rust",
    "toml": "toml",
    "wgsl": "wgsl",
}


def slug(heading):
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(text):
    return {slug(line.lstrip("#")) for code, line in lines(text) if not code and line.startswith("#")}


def lines(text):
    """Each line, and whether it is one of a block of code."""
    inside = False
    for line in text.splitlines():
        fence = FENCE.match(line)
        yield inside or bool(fence), line
        inside ^= bool(fence)


def part(text, options):
    """What the options of an `include` leave of a text."""
    for name, value in re.findall(r"^:(\S+): (.*)$", options, re.M):
        value = value.strip('"')
        found = re.search(f"^{re.escape(value)}$", text, re.M)
        assert found, f"no line {value!r} to include from"
        text = {"start-after": text[found.end() :], "end-before": text[: found.start()]}[name]
    return text.strip() + "\n"


def included(text):
    """Of each `include` of a page: the file by its path from the root, what is shown of it, and the line before."""
    for what, path, options in DIRECTIVE.findall(text):
        if what == "include":
            file = (DOCS / path).resolve()
            begin = re.search(r':start-after: "(.*)"', options)
            text = part(file.read_text(encoding="utf-8"), options)
            yield file.relative_to(ROOT).as_posix(), text, begin[1] if begin else ""


def shown(text):
    """Blocks of Rust without the lines that rustdoc hides, and what else it is told of them."""
    out, language = [], None
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            language = fence[2].split(",")[0] if language is None else None
            line = f"{fence[1]}```{language or ''}"
        elif language == "rust" and re.match(r"\s*#( |$)", line):
            continue
        out.append(line)
    return "\n".join(out) + "\n"


class Site:
    def __init__(self, source):
        self.source = source
        self.pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
        # Where each heading of a document is shown, and the page that has most of it.
        self.at, self.home, most = {}, {f"docs/{name}": name for name in self.pages}, {}
        # Sphinx-Gallery makes a page of each script.
        self.home["examples/gallery"] = "gallery/index"
        for script in (ROOT / "examples" / "gallery").glob("*.py"):
            self.home[script.relative_to(ROOT).as_posix()] = f"gallery/{script.stem}"
        for name, text in self.pages.items():
            for file, shown_part, begin in included(text):
                anchors = headings(shown_part) | headings(begin) & headings(text)
                self.at.update({(file, anchor): name for anchor in anchors})
                if len(shown_part) > most.get(file, 0):
                    most[file], self.home[file] = len(shown_part), name
        self.home["README.md"] = "index.md"
        self.copied = set()

    def write(self):
        for name, text in self.pages.items():
            self.put(name, self.page(name, text))

    def put(self, name, text):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def page(self, name, text):
        """A page of this folder, with what it includes."""

        def put_in(directive):
            what, path, options = directive.groups()
            file = (DOCS / path).resolve()
            if what == "literalinclude":
                path = os.path.relpath(file, (self.source / name).parent)
                return f":::{{literalinclude}} {path}\n{options}:::"
            origin = file.relative_to(ROOT).as_posix()
            return self.linked(part(file.read_text(encoding="utf-8"), options), origin, name).rstrip()

        # What the page says itself first: links of what it includes lead on from elsewhere.
        return shown(DIRECTIVE.sub(put_in, self.linked(text, f"docs/{name}", name)))

    def linked(self, text, origin, page):
        """A text of the file `origin` with links as they are on `page`."""
        out = []
        for code, block in itertools.groupby(lines(text), lambda line: line[0]):
            block = "\n".join(line for _, line in block)
            out.append(block if code else LINK.sub(lambda m: self.link(m, origin, page), block))
        return "\n".join(out) + "\n"

    def link(self, match, origin, page):
        image, label, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target:
            return match[0]
        file = (ROOT / origin).parent / path if path else ROOT / origin
        file = pathlib.Path(os.path.normpath(file))
        label = LINK.sub(lambda m: self.link(m, origin, page), label)
        if not file.exists():  # made by the build: a picture
            return match[0]
        file = file.relative_to(ROOT).as_posix()
        to = self.at.get((file, anchor)) or self.home.get(file) or self.copy(file, bool(image))
        there = anchor and ((file, anchor) in self.at or to.startswith("files/"))
        to = os.path.relpath(to, os.path.dirname(page) or ".") + (f"#{anchor}" if there else "")
        return f"{image}[{label}]({to})"

    def copy(self, file, image):
        """The page of a file that no page includes."""
        path = ROOT / file
        if path.is_dir() and (path / "README.md").exists():
            return self.home.get(f"{file}/README.md") or self.copy(f"{file}/README.md", image)
        to = f"files/{file}" if image or file.endswith(".md") else f"files/{file}.md"
        if file in self.copied:
            return to
        self.copied.add(file)
        (self.source / to).parent.mkdir(parents=True, exist_ok=True)
        if image:
            shutil.copy(path, self.source / to)
        elif path.is_dir():
            names = sorted(f"- `{p.name}{'/' if p.is_dir() else ''}`" for p in path.iterdir())
            self.put(to, "\n".join(["---", "orphan: true", "---", f"# {file}", "", *names, ""]))
        elif file.endswith(".md"):
            text = shown(self.linked(path.read_text(encoding="utf-8"), file, to))
            self.put(to, f"---\norphan: true\n---\n{text}")
        else:
            language = LANGUAGES.get(file.rsplit(".", 1)[-1], "text")
            code = os.path.relpath(path, (self.source / to).parent)
            head = f"---\norphan: true\nnosearch: true\n---\n# {file}\n"
            self.put(to, f"{head}\n:::{{literalinclude}} {code}\n:language: {language}\n:::\n")
        return to


if __name__ == "__main__":
    source = pathlib.Path(sys.argv[1]).resolve()
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    Site(source).write()
