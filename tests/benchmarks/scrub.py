"""Scrubbing, stepping and opening in the player, beside plain seeking with PyAV; run by hand.

    QT_QPA_PLATFORM=offscreen python tests/benchmarks/scrub.py [VIDEO]

Without VIDEO it makes one: 1080p, 19 s at 30 fps, H.264 with a keyframe every 250 frames and two B-frames.
Both ways give a picture of the player's size, of exactly the frame that was asked for; a time ends when it is painted.
"From the source" is the frame as the decoder gives it. "Picture kept" is the same frame from a picture that was made of it
before: when its range was looked at or set, or while the clip before it in the list was looked at.
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
import psutil
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from wan_studio.bridge.still_shelf import StillShelf
from wan_studio.domain.clip import SourceVideo
from wan_studio.services.media_probe import probe
from wan_studio.services.proxy_maker import ProxyMaker
from wan_studio.services.study_process import run_study
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

    def __init__(self, app: QApplication, stills: Path) -> None:
        self.app = app
        self.player = Player("Benchmark")
        self.player.resize(WIDTH, HEIGHT)
        self.player.show()
        self.shown = -1
        self.near = -1
        self.filled = (0, 1)
        self.worst_stall = 0.0
        self.last_tick = time.perf_counter()
        self.player.frame_shown.connect(self.on_shown)
        self.player._decoder.near_ready.connect(lambda wish, frame, image: setattr(self, "near", wish.frame))
        self.shelf = StillShelf(stills)
        self.shelf.still_ready.connect(self.player.show_still)
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


def processor_seconds() -> float:
    """Of this process and of those that it started."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(time.user + time.system for time in times)


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


class Told:
    """Prints a measurement, the processor's time for it, and what plain seeking took times as long."""

    def __init__(self) -> None:
        self.plain: tuple[float, float] | None = None

    def __call__(self, name: str, measure) -> None:
        before = processor_seconds()
        times = measure()
        spent = 1000 * (processor_seconds() - before) / len(times)
        middle, late = statistics.median(times), float(np.percentile(times, 95))
        self.plain = self.plain or (middle, late)
        ratios = f"{self.plain[0] / middle:6.1f} x {self.plain[1] / late:6.1f} x"
        print(f"{name:56s} p50 {middle:7.1f} p95 {late:7.1f} cpu {spent:7.1f} ms  {ratios}  n {len(times)}")


def open_clip(watch: Watch, source: SourceVideo, first: int, *, wait=True, still=False) -> float:
    watch.player.show_strip(None)
    watch.player._decoder.stop()  # nothing is kept from before
    watch.rest(0.3)
    watch.shown = watch.near = -1
    began = time.perf_counter()
    watch.player.show_strip(whole_strip(source), first, keep=WINDOW)
    if still:
        watch.shelf.want(source, first)
    if wait:
        watch.until(lambda: watch.shown == first)
        watch.app.processEvents()
    return 1000 * (time.perf_counter() - began)


def approximate(watch: Watch, source: SourceVideo, first: int) -> float:
    """Until any picture of the clip is there, which says that it is not yet the right one."""
    open_clip(watch, source, first, wait=False)
    return watch.until(lambda: watch.near == first or watch.shown == first)


def scrubbed_from_opening(watch: Watch, source: SourceVideo, first: int, frames: list[int]) -> list[float]:
    """The clip has just been opened, and nothing of it is decoded."""
    open_clip(watch, source, first, wait=False)
    return [watch.seek(frame) for frame in frames]


def measure_opening(told: Told, watch: Watch, source: SourceVideo, first: int) -> None:
    told("opened at frame 0", lambda: [open_clip(watch, source, 0) for _ in range(5)])
    at_in = lambda **how: [open_clip(watch, source, first, **how) for _ in range(5)]  # noqa: E731
    told("opened at its in point, from the source", at_in)
    told("  until a keyframe's picture, marked as such", lambda: [approximate(watch, source, first)] * 1)
    watch.until(lambda: watch.shown == first)
    watch.shelf.keep(source, first, watch.player.surface.image)
    told("opened at its in point, picture kept in memory", lambda: at_in(still=True))
    watch.rest(0.5)
    watch.shelf._kept.clear()
    told("opened at its in point, picture kept on disk", lambda: at_in(still=True)[:1])


def measure_scrubbing(told: Told, watch: Watch, source: SourceVideo, window, frames) -> None:
    (first, end), (inside, anywhere) = window, frames
    cold = lambda: scrubbed_from_opening(watch, source, first, inside)  # noqa: E731
    began = time.perf_counter()
    told("inside the range, from the moment of opening", cold)
    watch.until(lambda: watch.filled[0] == watch.filled[1])
    print(f"{'range in memory after':56s} {time.perf_counter() - began:7.1f} s at most")
    told("inside the range, once in memory", lambda: [watch.seek(frame) for frame in inside])
    told("frame step on", lambda: [watch.seek(frame) for frame in range(first + 1, end)])
    told("frame step back", lambda: [watch.seek(frame) for frame in range(end - 2, first, -1)])
    watch.player.release()
    watch.rest(0.5)
    watch.seek(first)
    told("step on, outside of it", lambda: [watch.seek(f) for f in range(first + 1, end)])
    told(
        "step back, outside of it, 20 frames",
        lambda: [watch.seek(f) for f in range(end - 2, end - 22, -1)],
    )
    told("anywhere, by seeking", lambda: [watch.seek(frame) for frame in anywhere[:25]])


def measure_proxy(told: Told, watch: Watch, source: SourceVideo, frames, folder: Path) -> None:
    first, inside, anywhere = frames
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(run_study, "proxy", source, folder)
        watch.until(making.done, 300)
    making.result()
    proxy = ProxyMaker(folder).existing(source)
    size = Path(proxy.path).stat().st_size >> 20
    print(f"{'proxy made in':56s} {time.perf_counter() - began:7.1f} s, {size} MiB")
    watch.player.use_proxy(source, proxy)
    told("anywhere, on the proxy", lambda: [watch.seek(frame) for frame in anywhere])
    told("opened at its in point, with proxy", lambda: [open_clip(watch, source, first) for _ in range(5)])
    cold = lambda: scrubbed_from_opening(watch, source, first, inside)  # noqa: E731
    told("inside the range, from opening, with proxy", cold)


def main() -> None:
    app = QApplication([])
    random.seed(7)
    told = Told()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else make_source(Path(folder) / "gop250.mp4")
        source = probe(path)
        first, end = WINDOW if source.frame_count > WINDOW[1] else (0, source.frame_count)
        inside = [random.randrange(first, end) for _ in range(SCRUBS)]
        anywhere = [random.randrange(source.frame_count) for _ in range(SCRUBS)]
        mebibytes = path.stat().st_size >> 20
        print(f"{source.width} x {source.height}, {source.frame_count} frames, {mebibytes} MiB")
        told("plain seeking, inside the range", lambda: plain_seek(source, inside[:25]))
        watch = Watch(app, Path(folder) / "stills")
        watch.rest(1.0)
        watch.worst_stall = 0.0
        measure_opening(told, watch, source, first)
        measure_scrubbing(told, watch, source, (first, end), (inside, anywhere))
        measure_proxy(told, watch, source, (first, inside, anywhere), Path(folder) / "proxies")
        print(f"{'longest stall of the window':56s} {1000 * watch.worst_stall:7.1f} ms")
        watch.player.shut_down()


if __name__ == "__main__":
    main()
