"""Files are looked at in processes of their own; what brings one down is a sentence about that file."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.media import make_video
from wan_studio.services.media_pool import IDLE, USUAL, VISIBLE, MediaPool
from wan_studio.services.media_worker import MediaRequest, answer
from wan_studio.services.probe_cache import decoded_source

STUB = """
import os, sys, time
from wan_studio.services.media_worker import MediaReply, MediaRequest, read_message, write_message
import msgspec
while data := read_message(sys.stdin.buffer):
    request = msgspec.msgpack.decode(data, type=MediaRequest)
    if "crash" in request.path:
        os.abort()
    if "slow" in request.path:
        time.sleep(60)
    write_message(sys.stdout.buffer, MediaReply(poster=request.path))
"""


class Asked:
    """Asks a pool and waits for the replies."""

    def __init__(self, pool):
        self.pool = pool
        self.replies = {}
        self.order = []
        self._changed = threading.Condition()

    def ask(self, path, priority=USUAL, kind="probe"):
        def on_reply(reply):
            with self._changed:
                self.replies[path] = reply
                self.order.append(path)
                self._changed.notify_all()

        return self.pool.submit(MediaRequest(kind, path, ""), on_reply, priority)

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.replies) >= count, timeout=30)


@pytest.fixture
def asked():
    pool = MediaPool(1, [sys.executable, "-c", STUB], seconds_allowed=1.0)
    yield Asked(pool)
    pool.close()


def test_a_file_that_crashes_its_worker_is_told_and_the_next_one_is_answered(asked):
    asked.ask("/clips/crash.mp4")
    asked.ask("/clips/good.mp4")
    asked.wait(2)
    assert asked.replies["/clips/crash.mp4"].problem == "/clips/crash.mp4 brought the decoder down."
    assert asked.replies["/clips/good.mp4"].problem == ""


def test_a_file_that_takes_for_ever_is_given_up(asked):
    begin = time.monotonic()
    asked.ask("/clips/slow.mp4")
    asked.ask("/clips/good.mp4")
    asked.wait(2)
    assert "took longer than 1 s" in asked.replies["/clips/slow.mp4"].problem
    assert asked.replies["/clips/good.mp4"].problem == ""
    assert time.monotonic() - begin < 20


def test_what_is_on_the_screen_goes_first_and_what_was_cancelled_not_at_all(asked):
    slow = asked.ask("/clips/slow.mp4", VISIBLE)
    while not slow.is_taken:
        time.sleep(0.01)
    idle = asked.ask("/clips/idle.mp4", IDLE)
    usual = asked.ask("/clips/usual.mp4")
    gone = asked.ask("/clips/gone.mp4")
    asked.ask("/clips/shown.mp4", VISIBLE)
    asked.pool.promote([usual])
    asked.pool.cancel([gone])
    asked.wait(4)
    assert asked.order[1:] == ["/clips/usual.mp4", "/clips/shown.mp4", "/clips/idle.mp4"]
    assert idle.is_taken
    assert "/clips/gone.mp4" not in asked.replies


@pytest.mark.media
def test_a_real_worker_probes_pictures_and_looks_and_the_second_time_from_its_cache(tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=20)
    cache = str(tmp_path / "cache")
    pool = MediaPool(1)
    try:
        asked = Asked(pool)
        for kind in ("probe", "poster", "look"):
            done = threading.Event()
            pool.submit(
                MediaRequest(kind, str(path), cache),
                lambda reply, kind=kind, done=done: (asked.replies.__setitem__(kind, reply), done.set()),
            )
            assert done.wait(30)
    finally:
        pool.close()
    assert decoded_source(asked.replies["probe"].source).frame_count == 20
    assert Path(asked.replies["poster"].poster).is_file()
    assert len(asked.replies["look"].look.signature) == 160
    size = path.stat()
    path.write_bytes(b"x" * size.st_size)
    os.utime(path, ns=(size.st_mtime_ns, size.st_mtime_ns))
    assert decoded_source(answer(MediaRequest("probe", str(path), cache)).source).frame_count == 20


@pytest.mark.media
def test_each_broken_file_is_a_sentence_that_says_what_is_wrong(tmp_path):
    whole = make_video(tmp_path / "whole.mp4", frames=40).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "zero.mp4").write_bytes(b"")
    with (tmp_path / "sparse.mp4").open("wb") as file:
        file.truncate(100 * 2**30)
    words = {
        "cut": "cut off",
        "text": "is not a video",
        "zero": "0 bytes",
        "sparse": "is not a video",
        "gone": "does not exist",
    }
    for name, words_in in words.items():
        reply = answer(MediaRequest("probe", str(tmp_path / f"{name}.mp4"), str(tmp_path / "cache")))
        assert words_in in reply.problem, name
        assert reply.is_missing == (name == "gone")


def test_a_limited_pool_uses_one_process_and_all_again_afterwards(tmp_path):
    stub = STUB.replace("write_message(sys.stdout", "time.sleep(0.05); write_message(sys.stdout").replace(
        "poster=request.path", "poster=str(os.getpid())"
    )
    pool = MediaPool(2, [sys.executable, "-c", stub])
    asked = Asked(pool)
    try:
        pool.limit(1)
        for number in range(6):
            asked.ask(f"limited {number}")
        asked.wait(6)
        assert len({reply.poster for reply in asked.replies.values()}) == 1
        pool.limit(None)
        for number in range(12):
            asked.ask(f"free {number}")
        asked.wait(18)
        assert len({reply.poster for reply in asked.replies.values()}) == 2
    finally:
        pool.close()
