"""Pages that open from disk without a network: one template, one style, at most one script."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from os import PathLike
from typing import Any

import jinja2
from matplotlib.figure import Figure

from segtad_jax.evaluation.report import style

PACKAGE = "segtad_jax.evaluation.report"  # whose files are templates, style and script


def write_html(
    path: str | PathLike[str],
    template: str,
    *,
    title: str,
    images: Mapping[str, Figure],
    script: str = "",
    **values: Any,
) -> None:
    """Writes a page.

    Args:
      path: an HTML file.
      template: name of a file beside this one that extends base.html.
      title: of the page.
      images: figures, which the template has as the addresses `images.NAME`.
      script: name of the file of the page's script. Nothing but it may run, whatever ids and labels
        contain.
      **values: what else the template names.
    """
    code = _resource(script) if script else ""
    page = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            images={name: _data_url(figure) for name, figure in images.items()},
            css=_resource("page.css"),
            script=code,
            script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
            **values,
        )
    )
    style.write(path, page.encode())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value, digits=2: (
        "-" if value is None else f"{100 * value:.{digits}f}"
    )
    environment.filters["points"] = lambda value: f"{100 * value:+.2f}"
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _resource(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _data_url(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(style.encode(figure, 'svg')).decode()}"
