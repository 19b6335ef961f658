"""What mkdocs does not do by itself for our pages: mkdocs.yml names this file as a hook.

* Pages name sources, tests and examples by their path in the repository. The site takes those files along, as text,
  so that each link leads somewhere and nowhere else.
* Comments that tell the tests how a snippet is run are not part of the site.
* `llms-full.txt` is every page in one file, for whoever reads with a language model.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"

LINK = re.compile(r"\[(?P<words>[^\]]*)\]\((?P<target>(?!\w+:|#)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
HIDDEN = re.compile(r"^ *<!-- hidden .*?^ *-->\n", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^ *<!--.*?-->\n", re.MULTILINE)


def outside(page: str, target: str) -> Path | None:
    """The file of the repository that a page links to, if it is none of the site's own."""
    path = (DOCS / posixpath.dirname(page) / target).resolve()
    if path.is_relative_to(DOCS):
        return None
    if not path.is_relative_to(REPOSITORY) or not path.exists():
        raise PluginError(f"{page}: {target} is not there")
    return path


def in_site(path: Path) -> str:
    """Where a file of the repository is in the site. `.txt`, so that a browser shows it; a notebook is to be saved."""
    name = f"source/{path.relative_to(REPOSITORY)}"
    return name if path.suffix == ".ipynb" else f"{name}.txt"


def on_files(files: Any, config: Any) -> Any:
    """Takes along what pages link to."""
    wanted = {
        path
        for file in files.documentation_pages()
        for link in LINK.finditer(file.content_string)
        if (path := outside(file.src_uri, link["target"])) is not None and path.is_file()
    }
    for path in sorted(wanted):
        files.append(File.generated(config, in_site(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links to files outside of docs/ to their copies, and leaves out what is for the tests."""

    def moved(link: re.Match[str]) -> str:
        path = outside(page.file.src_uri, link["target"])
        if path is None:
            return link[0]
        if path.is_dir():
            # A browser has nothing to show of a folder.
            return link["words"]
        target = posixpath.relpath(in_site(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"[{link['words']}]({target})"

    text = MARK.sub("", HIDDEN.sub("", markdown))
    return LINK.sub(moved, text)


FETCHED = re.compile(
    r"<(?:script|img|iframe|audio|video|source)[^>]*\ssrc=.?(?:https?:)?//|<link[^>]*\shref=.?(?:https?:)?//"
    r"|url\(.?(?:https?:)?//|@import[^;]*//"
)


def on_post_build(config: Any) -> None:
    """Writes `llms-full.txt`: the pages that `llms.txt` names, in its order. Nothing may be fetched from elsewhere."""
    for path in Path(config["site_dir"]).rglob("*"):
        if path.suffix in (".html", ".css") and (found := FETCHED.search(path.read_text(encoding="utf-8"))):
            raise PluginError(f"{path} fetches from elsewhere: {found[0]}")
    index = (DOCS / "llms.txt").read_text(encoding="utf-8")
    pages = dict.fromkeys(link["target"] for link in LINK.finditer(index) if link["target"].endswith(".md"))
    texts = [
        f"<!-- {name} -->\n\n{MARK.sub('', HIDDEN.sub('', (DOCS / name).read_text(encoding='utf-8')))}"
        for name in pages
    ]
    (Path(config["site_dir"]) / "llms-full.txt").write_text("\n\n".join(texts), encoding="utf-8")
