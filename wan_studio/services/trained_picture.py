"""A picture as it trains: cut at the exact pixel and resized by the filter with which the trainer does it."""

import numpy as np
from PIL import Image

from trainer.protocol.job import TrainedSize
from wan_studio.services.picture_colours import Picture


def trained_picture(picture: Picture, size: TrainedSize) -> Picture:
    """The crop of an upright picture at the size of its bucket, as `trainer.data.pictures.resize_crop`.

    Args:
        picture: Of the source's own size.
        size: A crop that lies inside it, and what it becomes.
    """
    crop = size.crop
    cut = np.ascontiguousarray(picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width])
    if (crop.width, crop.height) == (size.width, size.height):
        return cut
    resized = Image.fromarray(cut).resize((size.width, size.height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
