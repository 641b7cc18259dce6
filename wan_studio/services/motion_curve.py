"""How much moves: the mean absolute difference of small grey pictures."""

import numpy as np

from wan_studio.services.scene_detection import GreyPicture


class MotionMeter:
    """Takes small grey pictures in their order; gives for each how much it differs from the one before."""

    def __init__(self) -> None:
        self._previous: GreyPicture | None = None

    def change(self, picture: GreyPicture) -> float:
        """Per cent of full brightness, averaged over the picture; 0 for the first."""
        previous, self._previous = self._previous, picture
        if previous is None:
            return 0.0
        difference = np.abs(picture.astype(np.int16) - previous)
        return float(difference.mean() / 2.55)
