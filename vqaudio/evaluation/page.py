"""What every HTML page of vqaudio stands on: templates, and figures, pictures and sounds that lie in the page itself.

A page is one file that opens without a network: the style sheet is part of it, figures are inline SVG, pictures and
sounds are data URIs.
"""

from __future__ import annotations

import base64
import functools
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from vqaudio.evaluation.registry import need
from vqaudio.files import replacing

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).with_name("templates")
NEEDED = {"jinja2": "jinja2", "matplotlib": "matplotlib", "librosa.feature.spectral": "librosa"}  # packages by module


def check() -> None:
    """See that pages can be made.

    Raises:
        UsageError: where a package is missing.
    """
    need("A page", NEEDED)


def render(template: str, **values: Any) -> Markup:
    """Fill in a template of the folder `templates`; text is escaped, Markup goes in as it is."""
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(values))


def write(target: Path, html: str, force: bool) -> None:
    """Write a page to a file.

    Raises:
        UsageError: where it exists and `force` is not given.
        VqaudioError: where it cannot be written.
    """
    with replacing(target, force) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")  # names of files need not be text


def svg(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an inline SVG as wide as what it stands in.

    Args:
        name: unique on the page; prefixes its ids.
        description: for those who cannot see it.
    """
    import matplotlib
    from markupsafe import Markup, escape

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=nothing)
    body = file.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r'(\sid="|href="#|url\(#)', lambda found: f"{found[1]}{escape(name)}-", body)
    box = re.search(r'viewBox="[^"]*"', body)
    assert box  # matplotlib always writes one
    head = f'<svg {box[0]} role="img" aria-label="{escape(description)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(head + body[body.index(">") + 1 :])


def picture(levels: np.ndarray, colours: np.ndarray) -> str:
    """A picture as the data URI of a PNG with a palette.

    Args:
        levels: (height, width) uint8, the colour of each point, the uppermost row first.
        colours: (n, 3) uint8, red, green and blue of at most 256 colours.
    """
    from PIL import Image  # matplotlib needs and brings it

    image = Image.fromarray(levels)
    image.putpalette(np.ascontiguousarray(colours).tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return _data_uri("image/png", file.getvalue())


def sound(waveform: np.ndarray, sample_rate: int) -> str:
    """A waveform (T,), clipped to [-1, 1], as the data URI of a FLAC of 16 bits, which loses nothing that is heard."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(waveform, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", file.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
