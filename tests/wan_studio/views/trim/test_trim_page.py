import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtTest import QTest

from tests.media import number_in
from tests.wan_studio.bridge.pixels import pixels_of
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.frame_decoder import FrameRequest
from wan_studio.domain.clip import TrimRange

pytestmark = pytest.mark.media

CTRL, SHIFT, ALT = (
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.AltModifier,
)


def press(window, key, modifier=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(window, key, modifier)


def clips_of(window):
    return window.bench.session.project.clips


def undo_text(window):
    return window.bench.session.undo_stack.undoText()


def test_the_range_is_said_in_frames_seconds_and_speed(page):
    assert page._panel.readout == "17 frames at 16 fps = 1.06 s, speed 1.00x"
    assert "at real speed" in page._panel.notes
    page._panel.sampling_chosen.emit("whole_range")
    # 39 twentieths of a second in 16 steps of a sixteenth.
    assert page._panel.readout == "17 frames at 16 fps = 1.06 s, speed 1.95x"
    assert "1.95 times as fast as it is" in page._panel.notes


def test_f_fits_the_range_to_the_trained_length_and_shift_f_snaps_it(open_window, page):
    press(open_window, Qt.Key.Key_F)
    assert page.trim == TrimRange(0, 22)
    assert undo_text(open_window) == "Fit selection"
    page._set_trim(0, 13, "Trim")
    press(open_window, Qt.Key.Key_F, SHIFT)
    # 13 twentieths hold 10 frames at 16 a second: 9 of them are 4n + 1, and last 12 twentieths.
    assert page.trim == TrimRange(0, 12)


def test_b_splits_into_two_clips_of_one_file_with_the_same_caption(qtbot, open_window, page, clips_folder):
    page._seek(15)
    press(open_window, Qt.Key.Key_B)
    first, second = clips_of(open_window)[:2]
    assert (first.trim, second.trim) == (TrimRange(0, 15), TrimRange(15, 40))
    assert first.source == second.source
    caption = clips_folder / f"a.{second.id}.txt"
    assert second.caption_file == str(caption)
    qtbot.waitUntil(caption.is_file)
    assert caption.read_text(encoding="utf-8") == "orbit around the [trigger]"
    assert page.trim == TrimRange(0, 15)
    assert page._panel._where.text() == "Clip 1 of 4"
    assert page._timeline.content.others == (TrimRange(15, 40),)
    press(open_window, Qt.Key.Key_Z, CTRL)
    assert len(clips_of(open_window)) == 3
    assert page.trim == TrimRange(0, 40)


def test_outside_of_the_range_b_says_where_the_playhead_belongs(open_window, page):
    press(open_window, Qt.Key.Key_B)
    assert len(clips_of(open_window)) == 3
    assert "playhead inside the range" in page._stage.state


def test_shift_b_adds_a_range_as_long_as_what_trains(open_window, page):
    page._seek(10)
    press(open_window, Qt.Key.Key_B, SHIFT)
    assert clips_of(open_window)[1].trim == TrimRange(10, 32)
    assert page.trim == TrimRange(0, 40)


def test_brackets_move_the_range_and_all_moves_are_one_step_back(open_window, page):
    page._set_trim(5, 20, "Trim")
    for _ in range(3):
        press(open_window, Qt.Key.Key_BracketRight)
    assert page.trim == TrimRange(8, 23)
    press(open_window, Qt.Key.Key_Z, CTRL)
    assert page.trim == TrimRange(5, 20)


def test_trim_and_crop_are_pasted_to_the_selected_clips_in_one_step(open_window, page):
    page._set_trim(4, 24, "Trim")
    press(open_window, Qt.Key.Key_C, CTRL | ALT)
    page._panel._list.selectAll()
    press(open_window, Qt.Key.Key_V, CTRL | ALT)
    assert [clip.trim for clip in clips_of(open_window)] == [TrimRange(4, 24)] * 3
    assert undo_text(open_window) == "Paste trim and crop to 3 clips"
    press(open_window, Qt.Key.Key_Z, CTRL)
    assert [clip.trim for clip in clips_of(open_window)] == [TrimRange(4, 24), None, None]


def test_pasting_before_copying_says_what_to_do(open_window, page):
    press(open_window, Qt.Key.Key_V, CTRL | ALT)
    assert "Ctrl+Alt+C" in page._stage.state


def test_the_contact_sheet_holds_exactly_the_frames_that_train(qtbot, open_window, page):
    press(open_window, Qt.Key.Key_T, SHIFT)
    assert page._stage.shows_training
    assert page._stage.shows_sheet
    qtbot.waitUntil(lambda: page._stage.sheet.kept_count == 17)
    for frame in page._player.strip.frames:
        picture = page._player.kept_picture(frame)
        assert (picture.width(), picture.height()) == (64, 48)
        assert number_in(pixels_of(picture)) == frame
    press(open_window, Qt.Key.Key_T)
    assert not page._stage.shows_sheet


def test_inside_the_range_pictures_come_from_memory_and_are_the_frames_asked_for(qtbot, page):
    with qtbot.waitSignal(page._player.window_filled, check_params_cb=lambda done, count: done == count):
        page._stage.loop(TrimRange(5, 25))
    for frame in (5, 24, 11):
        shown = []
        page._player.frame_shown.connect(shown.append)
        page._seek(frame)
        # At once: no thread was asked.
        assert shown[:1] == [frame]
        page._player.frame_shown.disconnect(shown.append)
        assert number_in(pixels_of(page._player.surface.image)) == frame


def test_a_picture_on_the_way_to_the_wished_one_says_which_frame_it_is(qtbot, page):
    player = page._player
    player.release()
    page._seek(30)
    qtbot.waitUntil(lambda: player._exact_frame == 30)
    page._seek(12)
    wish = FrameRequest(page.source, 12, None, QSize(64, 48))
    player._decoder.near_ready.emit(wish, 8, player.surface.image)
    assert player.surface.note == "frame 8, until 12 is decoded"
    qtbot.waitUntil(lambda: player._exact_frame == 12)
    assert player.surface.note == ""
    player._decoder.near_ready.emit(wish, 8, player.surface.image)
    assert player.surface.note == ""


def test_a_clip_that_is_opened_again_shows_its_in_point_from_memory_at_once(qtbot, open_window, page):
    with qtbot.waitSignal(page._player.window_filled, check_params_cb=lambda done, count: done == count):
        page._set_trim(11, 25, "Trim")
    first = open_window.bench.session.clip_id
    QTest.keyClick(open_window, Qt.Key.Key_Down, CTRL)
    shown = []
    page._player.frame_shown.connect(shown.append)
    open_window.bench.session.select_clip(first)
    assert shown == [11]
    assert number_in(pixels_of(page._player.surface.image)) == 11


def test_a_page_that_is_left_gives_its_memory_back(qtbot, open_window, page):
    qtbot.waitUntil(lambda: page._player._decoder.kept_bytes > 0)
    page.leave()
    assert page._player._decoder.kept_bytes == 0


def test_the_timeline_zooms_around_the_playhead_and_follows_it(open_window, page):
    page._seek(20)
    for _ in range(2):
        press(open_window, Qt.Key.Key_Plus)
    scale = page._timeline.scale
    assert scale.length < 1
    assert scale.start < 1.0 < scale.start + scale.length
    press(open_window, Qt.Key.Key_End)
    scale = page._timeline.scale
    assert scale.start <= 39 / 20 <= scale.start + scale.length + 1e-9
    press(open_window, Qt.Key.Key_Z)
    assert page._timeline.scale.length == pytest.approx(2.0)


def test_without_loop_it_stops_at_the_end_of_the_range(qtbot, page):
    page._set_trim(5, 9, "Trim")
    page._player.playback.toggle_looping()
    page._player.playback.play()
    qtbot.waitUntil(lambda: page._player.playback.speed == 0)
    assert page._player.source_frame == 8


def test_mirrored_copies_are_warned_of_where_the_caption_names_a_direction(open_window, page):
    page._panel.flip_chosen.emit("horizontal", True)
    assert "both directions" in page._panel.notes
    open_window.bench.library.caption_written(open_window.bench.session.clip_id, "it turns left")
    page._renew_readout()
    assert "names a direction" in page._panel.notes


def test_motion_and_cuts_are_found_by_themselves(qtbot, page):
    qtbot.waitUntil(lambda: page._timeline.content.motion is not None, timeout=8000)
    assert len(page._timeline.content.motion.curve) == 40
    assert page._timeline.content.strip_frames == tuple(range(40))


def test_closing_the_window_while_everything_is_under_way_is_safe(qtbot, open_window, page, tmp_path):
    page._study._studies.analyse(page.source)
    page._study._studies.make_proxy(page.source)
    page.start_batch("still ends")
    page.leave()
    assert wait_for_background()


def test_a_slow_video_gets_a_proxy_and_says_so(qtbot, page):
    page._player.found_slow.emit(page.source)
    qtbot.waitUntil(lambda: "proxy" in page._stage.state and "trains from the source" in page._stage.state)
