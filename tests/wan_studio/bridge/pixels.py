"""A picture of Qt's as an array, to compare with what was encoded."""

import numpy as np
from PySide6.QtGui import QImage


def pixels_of(image: QImage) -> np.ndarray:
    """uint8 (height, width, 3) RGB."""
    rgb = image.convertToFormat(QImage.Format.Format_RGB888)
    flat = np.frombuffer(rgb.constBits(), np.uint8).reshape(rgb.height(), rgb.bytesPerLine())
    return flat[:, : 3 * rgb.width()].reshape(rgb.height(), rgb.width(), 3).copy()
