"""Whether every link of the site's pages leads to something in it.

    python docs/links.py SITE

Rustdoc's own pages are links' ends, not beginnings: rustdoc looks after theirs.
"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.add(value)


def main(site):
    read = {}

    def page(path):
        if path not in read:
            read[path] = Page(path.read_text(encoding="utf-8"))
        return read[path]

    dead, seen = [], 0
    begin = [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] != "rust"]
    for path in begin:
        for link in sorted(page(path).links):
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            seen += 1
            to = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            to = to / "index.html" if to.is_dir() else to
            # A source's line of rustdoc's is made by a script.
            anchored = to.suffix == ".html" and url.fragment and "rust" not in to.relative_to(site).parts[:1]
            if not to.is_file() or anchored and urllib.parse.unquote(url.fragment) not in page(to).anchors:
                dead.append(f"{path.relative_to(site)}: {link}")
    print(f"{seen} links of {len(begin)} pages")
    return dead


if __name__ == "__main__":
    found = main(pathlib.Path(sys.argv[1]).resolve())
    sys.exit("\n".join(["links that lead nowhere:", *found]) if found else 0)
