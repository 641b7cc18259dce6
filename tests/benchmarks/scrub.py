"""Scrubbing, stepping and opening in the player, beside plain seeking with PyAV; run by hand.

    QT_QPA_PLATFORM=offscreen python tests/benchmarks/scrub.py [VIDEO]

Without VIDEO it makes one: 1080p, 19 s at 30 fps, H.264 with a keyframe every 250 frames and two B-frames.
Both ways give a picture of the player's size, of exactly the frame that was asked for.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
import numpy as np
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyMaker
from wan_studio.views.player.player import Player, whole_strip

WIDTH, HEIGHT = 960, 540
WINDOW = (400, 550)
"""150 frames, 5 s: as long a range as is trained on."""
SCRUBS = 60


def make_source(path: Path, frames: int = 560) -> Path:
    """A moving picture with noise: as hard to decode as camera footage."""
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 24, (1080 + 64, 1920 + 128, 3), np.uint8)
    rows = np.linspace(0, 180, 1080, dtype=np.float32)[:, None, None]
    ground = np.broadcast_to(rows, (1080, 1920, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 1920, 1080, "yuv420p", 250
        stream.options = {"preset": "superfast", "crf": "24", "bf": "2", "sc_threshold": "0"}
        for at in range(frames):
            dx, dy = (at * 3) % 128, (at * 2) % 64
            picture = ground + noise[dy : dy + 1080, dx : dx + 1920]
            picture[400:680, (at * 11) % 1600 : (at * 11) % 1600 + 300] = (200, 80, 40)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Watch:
    """The player in an event loop: times from wish to picture, and the loop's longest stall."""

    def __init__(self, app: QApplication) -> None:
        self.app = app
        self.player = Player("Benchmark")
        self.player.resize(WIDTH, HEIGHT)
        self.player.show()
        self.shown = -1
        self.filled = (0, 1)
        self.worst_stall = 0.0
        self.last_tick = time.perf_counter()
        self.player.frame_shown.connect(self.on_shown)
        self.player.window_filled.connect(lambda *counts: setattr(self, "filled", counts))
        self.timer = QTimer()
        self.timer.timeout.connect(self.on_tick)
        self.timer.start(2)

    def on_shown(self, frame: int) -> None:
        self.shown = frame

    def on_tick(self) -> None:
        now = time.perf_counter()
        self.worst_stall = max(self.worst_stall, now - self.last_tick)
        self.last_tick = now

    def until(self, holds, limit: float = 60.0) -> float:
        began = time.perf_counter()
        while not holds():
            self.app.processEvents()
            time.sleep(0.0003)
            if time.perf_counter() - began > limit:
                raise TimeoutError
        return 1000 * (time.perf_counter() - began)

    def rest(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        self.until(lambda: time.perf_counter() > end)

    def seek(self, frame: int) -> float:
        self.shown = -1
        began = time.perf_counter()
        self.player.playback.seek(frame)
        self.until(lambda: self.shown == frame)
        self.app.processEvents()  # it is painted
        return 1000 * (time.perf_counter() - began)


def plain_seek(source: SourceVideo, frames: list[int]) -> list[float]:
    """What a program does that knows PyAV and no more: seek to the keyframe before, decode to the frame."""
    times = []
    with av.open(source.path) as container:
        stream = container.streams.video[0]
        for frame_index in frames:
            began = time.perf_counter()
            container.seek(source.frame_pts[frame_index], stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts == source.frame_pts[frame_index]:
                    frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT)
                    break
            times.append(1000 * (time.perf_counter() - began))
    return times


def told(name: str, times: list[float]) -> None:
    print(
        f"{name:52s} p50 {statistics.median(times):7.1f} ms   p95 {np.percentile(times, 95):7.1f} ms   n {len(times)}"
    )


def open_clip(watch: Watch, source: SourceVideo, first: int) -> float:
    watch.player.show_strip(None)
    watch.player._decoder.stop()  # nothing is kept from before
    watch.shown = -1
    began = time.perf_counter()
    watch.player.show_strip(whole_strip(source), first, keep=WINDOW)
    watch.until(lambda: watch.shown == first)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    app = QApplication([])
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else make_source(Path(folder) / "gop250.mp4")
        source = probe(path)
        first, end = WINDOW if source.frame_count > WINDOW[1] else (0, source.frame_count)
        inside = [random.randrange(first, end) for _ in range(SCRUBS)]
        anywhere = [random.randrange(source.frame_count) for _ in range(SCRUBS)]
        print(
            f"{source.width} x {source.height}, {source.frame_count} frames, {path.stat().st_size >> 20} MiB"
        )
        told("plain seeking, inside the range", plain_seek(source, inside[:25]))
        told("plain seeking, anywhere", plain_seek(source, anywhere[:25]))
        watch = Watch(app)
        watch.rest(0.5)
        watch.worst_stall = 0.0
        told("ours: first frame of a clip opened at frame 0", [open_clip(watch, source, 0) for _ in range(5)])
        at_in = [open_clip(watch, source, first) for _ in range(5)]
        told("ours: first frame of a clip opened at its in point", at_in)
        began = time.perf_counter()
        cold = [watch.seek(frame) for frame in inside]
        told("ours: inside the range, from the moment of opening", cold)
        watch.until(lambda: watch.filled[0] == watch.filled[1])
        print(f"{'ours: range in memory after':52s} {time.perf_counter() - began:7.1f} s at most")
        told("ours: inside the range, once in memory", [watch.seek(frame) for frame in inside])
        told("ours: frame step on", [watch.seek(frame) for frame in range(first + 1, end)])
        told("ours: frame step back", [watch.seek(frame) for frame in range(end - 2, first, -1)])
        watch.player.release()
        watch.rest(0.5)
        watch.seek(first)
        told("ours: step on without the range in memory", [watch.seek(f) for f in range(first + 1, end)])
        told("ours: step back without it, 20 frames", [watch.seek(f) for f in range(end - 2, end - 22, -1)])
        told("ours: anywhere, by seeking", [watch.seek(frame) for frame in anywhere[:25]])
        began = time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(ProxyMaker(Path(folder) / "proxies").make, source)
            watch.until(making.done, 300)
        proxy = making.result()
        size = Path(proxy.path).stat().st_size >> 20
        print(f"{'proxy made in':52s} {time.perf_counter() - began:7.1f} s, {size} MiB")
        watch.player.use_proxy(source, proxy)
        told("ours: anywhere, on the proxy", [watch.seek(frame) for frame in anywhere])
        told("ours: opened at its in point, with proxy", [open_clip(watch, source, first) for _ in range(5)])
        print(f"{'longest stall of the window':52s} {1000 * watch.worst_stall:7.1f} ms")
        watch.player.shut_down()


if __name__ == "__main__":
    main()
