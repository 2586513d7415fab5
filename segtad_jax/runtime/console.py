"""The terminal as rich writes to it: colours are rich's own, and nothing in data can steer it."""

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from segtad_jax.runtime.command import printable


class _Shown:
    def __init__(self, renderable: Any) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):
            text = segment.text if segment.control else printable(segment.text, console.encoding)
            yield segment._replace(text=text)


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


def open_console(**how: Any) -> Console:
    """Returns a console on stdout, to which text goes as `command.printable`."""
    # Past the PrintableStream of `command.run`, which would show rich's own colours, too.
    console = Console(file=getattr(sys.stdout, "stream", sys.stdout), **how)
    console.push_render_hook(_Hook())
    return console
