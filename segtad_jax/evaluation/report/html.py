"""Writes pages that open from disk without a network, with one style and at most one script."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from os import PathLike
from typing import Any

import jinja2
from matplotlib.figure import Figure

from segtad_jax.evaluation.report import style


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
        images: figures, whose addresses are `images.NAME` in the template.
        script: name of the file with the page's script. Nothing else may run, whatever ids and
            labels contain.
        **values: other names in the template.
    """
    code = _resource(script) if script else ""
    page = _environment().get_template(template)
    content = page.render(
        title=title,
        images={name: _data_url(figure) for name, figure in images.items()},
        css=_resource("page.css"),
        script=code,
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **values,
    )
    style.write(path, content.encode())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(style.PACKAGE, package_path=""),
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
    return resources.files(style.PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _data_url(figure: Figure) -> str:
    # Transparent: where the reader prefers it dark, the page inverts the lines alone.
    content = style.encode(figure, "svg", transparent=True)
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
