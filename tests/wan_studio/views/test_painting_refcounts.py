"""PySide6 6.12.0 takes a reference from None at each painter call; on Python 3.11 the window then dies."""

import sys

from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QImage, QPainter


def test_painting_does_not_use_up_the_references_to_none(qapp):
    image = QImage(16, 16, QImage.Format.Format_ARGB32)
    painter = QPainter(image)
    before = sys.getrefcount(None)
    for _ in range(500):
        painter.save()
        painter.fillRect(QRectF(0, 0, 5, 5), QColor("red"))
        painter.restore()
    lost = before - sys.getrefcount(None)
    painter.end()
    # The interpreter's own work moves the count by a few; the fault loses one for each of 1500 calls.
    assert lost < 200
