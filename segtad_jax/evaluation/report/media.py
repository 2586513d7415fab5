"""Shows a video beside its timeline: where the page finds it, and stills in case it cannot play."""

import base64
import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from etils import epath


class Media(NamedTuple):
    """A video as a page shows it."""

    address: str  # of the file, from the page; "" for none
    stills: Sequence[tuple[float, bytes]]  # seconds and JPEG, by rising times


def address_from(page: str | os.PathLike[str], video: str | os.PathLike[str]) -> str:
    """Returns the address of a video relative to a page; "" unless both are files here."""
    if "://" in f"{page}{video}":
        return ""
    way = os.path.relpath(epath.Path(video).resolve(), epath.Path(page).resolve().parent)
    return f"./{quote(way, errors='replace')}"  # with ./ no name of a file is a protocol


def media_data(media: Media) -> dict[str, Any]:
    """Returns what the page's script needs, times in hundredths of a second."""
    stills = [
        [round(100 * seconds), f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"]
        for seconds, image in media.stills
    ]
    return {"address": media.address, "stills": stills}
