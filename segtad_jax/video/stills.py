"""Takes stills of videos, for pages."""

import io

import numpy as np
from etils import epath
from PIL import Image

from segtad_jax.evaluation.report.media import Media, address_from
from segtad_jax.evaluation.report.recordings import DRAWN
from segtad_jax.video.decode import VideoError, open_video

SHORT = 120  # pixels of a still's shorter side
MOST = 24  # of a video
ON_A_PAGE = 1200
QUALITY = 70  # of JPEG


def media_of(page: str, path: epath.Path, duration: float, videos: int = 1) -> Media:
    """Returns a video as a page shows it, with stills at equal distances.

    Args:
        page: file of the page.
        path: of the video.
        duration: seconds.
        videos: of the page, which share its stills.
    """
    number = int(np.clip(duration, 1, min(MOST, ON_A_PAGE // min(videos, DRAWN))))
    times = (np.arange(number) * duration / number).tolist()
    stills = []
    try:
        pictures = open_video(path, fps=1.0, size=SHORT).stills(times, SHORT)
        for seconds, picture in zip(times, pictures, strict=True):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "JPEG", quality=QUALITY)
            stills.append((seconds, content.getvalue()))
    except VideoError:  # removed since its features were made; the page says that it is not there
        pass
    return Media(address_from(page, path), stills)
