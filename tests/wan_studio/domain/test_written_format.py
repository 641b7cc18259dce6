"""Pixel formats stay what they are wherever the encoder has them."""

import pytest

from wan_studio.domain.written_format import WrittenFormat, written_format


def form(name, codec, *, bits=8, is_turned=False, is_rgb=False):
    return written_format(name, bits, codec, is_turned=is_turned, is_rgb=is_rgb)


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
def test_usual_formats_are_written_as_they_are(name, codec):
    assert form(name, codec) == WrittenFormat(name)


def test_full_range_is_said_and_never_squeezed():
    assert form("yuvj420p", "h264") == WrittenFormat("yuv420p", is_full_range=True)
    assert form("yuvj422p", "ffv1", is_turned=True) == WrittenFormat(
        "yuv444p", "yuvj444p", is_full_range=True
    )


def test_h264_takes_the_next_depth_that_it_has():
    assert form("yuv420p12le", "h264", bits=12).name == "yuv420p10le"
    assert form("yuv420p9le", "h264", bits=9).name == "yuv420p10le"
    assert form("yuv420p12le", "ffv1", bits=12) == WrittenFormat("yuv420p12le")


def test_colour_that_a_quarter_turn_would_change_is_made_whole_first():
    assert form("yuv422p", "h264", is_turned=True) == WrittenFormat("yuv444p", "yuv444p")
    assert form("yuv411p", "ffv1").name == "yuv444p"


def test_rgb_stays_rgb_without_loss_and_becomes_luma_and_colour_in_h264():
    assert form("bgr0", "ffv1", is_rgb=True) == WrittenFormat("bgr0")
    assert form("rgb24", "ffv1", is_rgb=True) == WrittenFormat("bgr0", "bgr0")
    assert form("gbrp10le", "ffv1", bits=10, is_rgb=True) == WrittenFormat("gbrp10le")
    assert form("rgb24", "h264", is_rgb=True).from_rgb
    assert form("gray", "ffv1") == WrittenFormat("gray")
    assert form("yuva420p", "h264") == WrittenFormat("yuv420p", "yuv420p")
    assert form("nv12", "h264") == WrittenFormat("yuv420p", "yuv420p")
