"""The site as `make site` builds it: without a warning, every page there, no link into nothing."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from repository import REPOSITORY

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """What a page points to, and the anchors in it."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = "-m sphinx -q -W --keep-going -c docs -b html".split()
    places = [*("-d", str(folder / "doctrees")), ".", str(folder / "html")]
    built = subprocess.run(
        [sys.executable, *command, *places], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_notebook_and_page_of_the_docs_is_there(site):
    sources = [*REPOSITORY.glob("notebooks/*.ipynb"), *REPOSITORY.glob("docs/*.md")]
    pages = [site / path.relative_to(REPOSITORY).with_suffix(".html") for path in sources]
    assert len(pages) > 15 and [page for page in pages if not page.is_file()] == []


def test_no_link_leads_into_nothing_and_nothing_is_fetched_to_show_a_page(site):
    pages = [
        page for page in site.rglob("*.html") if "_static" not in page.parts
    ]  # not the theme's
    read = {page: Links(page) for page in pages}
    lost, fetched = [], []
    for page, links in read.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            file = file / "index.html" if file.is_dir() else file
            inside = read.get(file)
            anchor = unquote(parts.fragment)
            if not file.is_file() or (anchor and inside and anchor not in inside.anchors):
                lost.append(f"{page.relative_to(site)}: {target}")
        text = page.read_text(encoding="utf-8")
        fetched += [page.name] * ('src="http' in text or 'rel="stylesheet" href="http' in text)
    assert lost == [] and fetched == []
