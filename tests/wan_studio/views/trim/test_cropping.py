import av
import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtTest import QTest

from trainer.protocol.job import CropBox
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media


def press(widget, key, modifier=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(widget, key, modifier)


def crop_of(window):
    return window.bench.session.clip.crop


@pytest.fixture
def overlay(page):
    return page._stage.overlay


def test_c_arrows_and_enter_crop_by_keyboard(open_window, page, overlay):
    press(open_window, Qt.Key.Key_C)
    assert overlay.is_editing
    overlay.set_crop(CropBox(left=0, top=0, width=48, height=40))
    press(overlay, Qt.Key.Key_Right)
    press(overlay, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    press(overlay, Qt.Key.Key_Return)
    assert not overlay.is_editing
    # Down by ten is held at the picture's edge.
    assert crop_of(open_window) == CropBox(left=1, top=8, width=48, height=40)
    assert open_window.bench.session.undo_stack.undoText() == "Crop"
    press(open_window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert crop_of(open_window) is None
    assert overlay.crop is None


def test_while_it_is_cropped_arrows_do_not_step_frames(open_window, page, overlay):
    page._seek(10)
    press(open_window, Qt.Key.Key_C)
    overlay.set_crop(CropBox(left=0, top=0, width=40, height=40))
    press(overlay, Qt.Key.Key_Right)
    assert page._player.source_frame == 10


def test_esc_leaves_the_crop_as_it_was(open_window, page, overlay):
    press(open_window, Qt.Key.Key_C)
    overlay.set_crop(CropBox(left=0, top=0, width=40, height=40))
    press(overlay, Qt.Key.Key_Escape)
    assert not overlay.is_editing
    assert overlay.crop is None
    assert crop_of(open_window) is None


def test_an_aspect_of_the_buckets_holds_the_box(open_window, page, overlay):
    press(open_window, Qt.Key.Key_C)
    bar = page._stage.crop_tools
    names = [bar._choice.itemText(at) for at in range(bar._choice.count())]
    assert names[0] == "Free"
    square = next(at for at, name in enumerate(names) if name.startswith("1:1"))
    bar._choice.activated.emit(square)
    assert (overlay.crop.width, overlay.crop.height) == (48, 48)
    press(overlay, Qt.Key.Key_Minus)
    assert overlay.crop.width == overlay.crop.height < 48


def test_a_corner_is_dragged_by_hand(open_window, page, overlay):
    press(open_window, Qt.Key.Key_C)
    corner = overlay._on_screen(64, 48)
    middle = overlay._on_screen(44, 36)
    QTest.mousePress(overlay, Qt.MouseButton.LeftButton, pos=corner.toPoint())
    QTest.mouseMove(overlay, middle.toPoint())
    QTest.mouseRelease(overlay, Qt.MouseButton.LeftButton, pos=middle.toPoint())
    assert (overlay.crop.left, overlay.crop.top) == (0, 0)
    assert overlay.crop.width == pytest.approx(44, abs=1)
    assert overlay.crop.height == pytest.approx(36, abs=1)


def test_points_on_screen_and_in_the_picture_are_each_others_inverse(page, overlay):
    at = overlay._on_screen(13, 29)
    assert overlay._in_source(QPointF(at)) == pytest.approx((13, 29))


def test_the_training_view_shows_what_is_left_of_the_picture(qtbot, open_window, page, overlay):
    press(open_window, Qt.Key.Key_C)
    overlay.set_crop(CropBox(left=16, top=0, width=48, height=48))
    press(overlay, Qt.Key.Key_Return)
    press(open_window, Qt.Key.Key_T)
    size = page._player.strip.trained_size
    assert (size.width, size.height) == (48, 48)
    assert (size.crop.left, size.crop.width) == (16, 48)
    assert not overlay.isVisible()


def make_film(path, bars):
    """Frames with black bars above and below; the first and last second are still."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for at in range(60):
            picture = np.full((96, 160, 3), 90, np.uint8)
            place = 4 * min(max(at - 20, 0), 20)
            picture[30:70, place : place + 60] = 230
            picture[:bars] = picture[96 - bars :] = 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def film_page(qtbot, window, tmp_path):
    from wan_studio.domain.checks import Step

    folder = tmp_path / "films"
    folder.mkdir()
    for name, bars in (("a.mp4", 16), ("b.mp4", 0)):
        make_film(folder / name, bars) if bars else make_film(folder / name, 1)
    store = ProjectStore(tmp_path / "film")
    store.save(import_clips(Project(name="film", settings=settings_for("motion")), [folder]))
    window.bench.open_project(store.folder)
    qtbot.waitUntil(lambda: window.bench.session.is_open and window.bench.library.waiting == 0)
    window.go_to(Step.TRIM)
    page = window.page(Step.TRIM)
    qtbot.waitUntil(lambda: page.source is not None)
    return page


def test_black_bars_of_all_clips_are_shown_before_they_are_cut_off_in_one_step(qtbot, window, film_page):
    sheet = film_page._batches.sheet
    film_page.start_batch("black bars")
    qtbot.waitUntil(lambda: sheet.changes != [])
    assert [change.source.name for change in sheet.changes] == ["a.mp4"]
    assert all(clip.crop is None for clip in window.bench.session.project.clips)
    sheet._apply.click()
    crop = window.bench.session.project.clips[0].crop
    assert crop == CropBox(left=0, top=17, width=160, height=62)
    assert window.bench.session.undo_stack.undoText() == "Cut off black bars of 1 clip"
    window.bench.session.undo_stack.undo()
    assert window.bench.session.project.clips[0].crop is None


def test_still_ends_of_all_clips_are_shown_and_only_the_chosen_ones_are_trimmed(qtbot, window, film_page):
    sheet = film_page._batches.sheet
    film_page.start_batch("still ends")
    qtbot.waitUntil(lambda: len(sheet.changes) == 2)
    row = sheet._table.topLevelItem(0)
    assert (row.text(0), row.text(1)) == ("a.mp4", "3.00 s")
    assert "at the start" in row.text(3)
    row.setCheckState(0, Qt.CheckState.Unchecked)
    assert sheet._apply.text() == "Apply to 1 clip"
    # One primary action at a time.
    assert film_page.primary() is None
    sheet._apply.click()
    assert film_page.primary() is not None
    first, second = window.bench.session.project.clips
    assert first.trim is None
    assert second.trim.start_frame in range(15, 21)
    assert second.trim.end_frame in range(40, 46)


def test_bars_of_the_clip_that_is_cropped_are_found(qtbot, window, film_page):
    press(window, Qt.Key.Key_C)
    film_page._stage.crop_tools.bars_wanted.emit()
    overlay = film_page._stage.overlay
    qtbot.waitUntil(lambda: overlay.crop == CropBox(left=0, top=17, width=160, height=62))
    assert window.bench.session.clip.crop is None


def test_m_trims_to_the_motion_as_soon_as_it_is_known(qtbot, window, film_page):
    press(window, Qt.Key.Key_M)
    qtbot.waitUntil(lambda: window.bench.session.clip.trim is not None)
    trim = film_page.trim
    assert trim.start_frame <= 20
    assert trim.end_frame >= 40
    assert window.bench.session.undo_stack.undoText() == "Trim to motion"
