from PySide6.QtGui import QImage

from wan_studio.bridge.poster_shelf import PosterShelf


def test_the_poster_that_was_not_looked_at_for_longest_goes_first(qapp):
    shelf = PosterShelf(2)
    image = QImage(4, 4, QImage.Format.Format_RGB888)
    shelf.put("a", image)
    shelf.put("b", image)
    assert shelf.get("a") is not None
    shelf.put("c", image)
    assert [one in shelf for one in "abc"] == [True, False, True]


def test_a_clip_without_a_picture_is_not_asked_for_again_until_its_file_changes(qapp):
    shelf = PosterShelf()
    shelf.put("a", None)
    assert shelf.has_none("a")
    shelf.drop("a")
    assert not shelf.has_none("a")
