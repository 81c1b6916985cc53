"""HTML pages in tests: what they are made of, and what a browser makes of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Loads every player and picture of a page, one after the other, and says what there is.
INSPECT = """
(async () => {
  const durations = [];
  for (const player of document.querySelectorAll("audio")) {
    await new Promise((done) => {
      player.onloadedmetadata = player.onerror = done;
      player.preload = "metadata";
      player.load();
    });
    durations.push(player.duration || 0);
  }
  const pictures = [];
  for (const image of document.querySelectorAll("main img")) {
    await image.decode();
    pictures.push([image.naturalWidth, image.naturalHeight]);
  }
  const plots = [...document.querySelectorAll("svg")].map((svg) => {
    const box = svg.getBoundingClientRect(), drawn = svg.getBBox();
    return [box.width, box.height, drawn.width, drawn.height];
  });
  const style = getComputedStyle(document.body);
  return {
    durations, pictures, plots, background: style.backgroundColor, text: style.color,
    wide: document.documentElement.scrollWidth,
  };
})()
"""


class Elements(HTMLParser):
    """All elements of a page with their attributes, and whether they are closed in the order they were opened."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def check_alone(text: str) -> None:
    """See that a page is well-formed and needs nothing from elsewhere."""
    elements = Elements(text)
    assert not elements.open
    for tag, attributes in elements.found:
        for name in ("src", "href", "srcset", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:80])
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
