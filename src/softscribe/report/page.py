"""Pages out of templates: everything is escaped unless the template itself wrote it, and the browser is told to load nothing."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from softscribe.files import replacing

REPORT_NAME = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fill a template of this package with values, and write it to `path`.

    Raises:
        InputError: the file cannot be written.
    """
    style, script = (_own_text(name) for name in ("page.css", "page.js"))
    page = _environment().get_template(template).render(values, style=style, script=script, policy=_policy(script))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")  # a file's name may hold bytes that are no UTF-8
    return path


def _policy(script: str) -> str:
    """The Content-Security-Policy: no connection at all, pictures inside the page, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@cache
def _own_text(name: str) -> Markup:
    """A file of this package, which goes into a page as it stands."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
