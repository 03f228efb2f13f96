"""The page that shows what ``captum-ultra segment`` made of a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from captum_ultra.io import written_whole

__all__ = ["Entry", "write_page"]

_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Segmentations</title>
<style>
  body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; }
  ul { list-style: none; padding: 0; display: grid; gap: 1.5rem;
       grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); }
  figure { margin: 0; } figcaption { overflow-wrap: anywhere; }
  .row { display: flex; gap: 4px; } .row a { flex: 1; } img { width: 100%; display: block; image-rendering: pixelated; }
  .failed { color: #a00; }
</style>
</head>
<body>
<h1>Segmentations</h1>
<p>{{ summary }}</p>
{% if failed %}
<h2>Not segmented</h2>
<ul class="failed">
{% for name, reason in failed %}  <li>{{ name }}: {{ reason }}</li>
{% endfor %}</ul>
{% endif %}
<ul>
{% for entry in entries %}
  <li><figure>
    <div class="row">
{% for kind in kinds %}      <a href="{{ link(kind, entry) }}"><img src="{{ link(kind, entry) }}" alt="{{ kind }} of \
{{ entry.source }}" loading="lazy"></a>
{% endfor %}    </div>
    <figcaption>{{ entry.source }}: {{ entry.regions }} {{ "region" if entry.regions == 1 else "regions" }}</figcaption>
  </figure></li>
{% endfor %}
</ul>
</body>
</html>
"""


@dataclass(frozen=True)
class Entry:
    """One segmented picture: where it came from, what its files are called in every folder, its regions."""

    source: str
    name: str
    regions: int


def write_page(
    path: Path, entries: Sequence[Entry], failed: Sequence[tuple[str, str]], kinds: Sequence[str], summary: str
) -> None:
    """Write an HTML page whose links lead to ``kind/name`` beside it and nowhere else.

    Args:
        path: the page.
        entries: what was segmented.
        failed: names of pictures that were not, and why.
        kinds: the folders beside the page that hold a file for each entry.
        summary: one sentence on model and method.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals["link"] = lambda kind, entry: quote(f"{kind}/{entry.name}")
    text = environment.from_string(_TEMPLATE).render(entries=entries, failed=failed, kinds=kinds, summary=summary)
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
