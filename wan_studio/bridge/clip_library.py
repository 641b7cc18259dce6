"""What the clips' files say: probed and pictured by worker processes, and kept for every page."""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QImage, QPixmap

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.caption_batch import read_captions
from wan_studio.bridge.poster_shelf import PosterShelf
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts, Problem
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip
from wan_studio.services.media_pool import IDLE, USUAL, VISIBLE, MediaJob, MediaPool, media_pool
from wan_studio.services.media_worker import Kind, MediaReply, MediaRequest
from wan_studio.services.probe_cache import decoded_source

_TOLD_AFTER_MILLISECONDS = 40
_SLICE_SECONDS = 0.008
_CAPTIONS_AT_ONCE = 200
_ASKED_AT_ONCE = 100
_STRIPS_KEPT = 24
"""Of about 1 MB each."""

_Arrival = Callable[[], str]
"""Takes something that a worker found into the facts; returns the clip's id, empty when it is out of date."""


class Judge(Protocol):
    """Says what stands in clips' ways; made after the library, which passes its word on."""

    def problems_of(self, clip_id: str) -> tuple[Problem, ...]: ...


class ClipLibrary(QObject):
    """Facts and posters of the open project's clips.

    Signals:
        clip_changed: Something new is known of a clip. arg: clip id
        clips_changed: The same of several at once, after `clip_changed` of each. arg: frozenset of ids
        progress_changed: Clips not yet looked at, of all. args: int, int
        problems_changed: Other things stand in the way of some. arg: frozenset of ids
        looks_changed: How many are still to be looked at closely, for duplicates and the like. arg: int
    """

    clip_changed = Signal(str)
    clips_changed = Signal(object)
    progress_changed = Signal(int, int)
    problems_changed = Signal(object)
    looks_changed = Signal(int)
    _arrived = Signal()

    def __init__(self, session: ProjectSession, cache_folder: Path, pool: MediaPool | None = None) -> None:
        super().__init__(session)
        self._session = session
        self._cache = str(cache_folder)
        self._pool = pool or media_pool()
        self._facts: dict[str, ClipFacts] = {}
        self._posters = PosterShelf()
        self._strips = PosterShelf(_STRIPS_KEPT)
        self._asked: dict[str, str] = {}
        self._clips: dict[str, ProjectClip] = {}
        self._jobs: dict[tuple[Kind, str], MediaJob] = {}
        self._wishes: dict[str, None] = {}
        self._inbox: deque[_Arrival] = deque()
        self._cut_off: set[str] = set()
        self._waiting = 0
        self._looks = 0
        self.is_paused = False
        self.judge: Judge | None = None
        self._unasked: dict[str, ProjectClip] = {}
        self._ask_timer = self._timer(0, self._ask_some)
        self._wish_timer = self._timer(0, self._fetch_wishes)
        self._inbox_timer = self._timer(_TOLD_AFTER_MILLISECONDS, self._take_in)
        self._arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)
        session.project_opened.connect(self._forget)
        session.project_changed.connect(self._look_at_new_clips)

    @property
    def facts(self) -> dict[str, ClipFacts]:
        """What is known, by clip id."""
        return self._facts

    def facts_of(self, clip_id: str) -> ClipFacts:
        """What is known of a clip; empty facts while nothing is."""
        return self._facts.get(clip_id, _NOTHING)

    def source_of(self, clip_id: str) -> SourceVideo | None:
        """The probed video of a clip, once it is known and readable."""
        return self.facts_of(clip_id).source

    def problems_of(self, clip_id: str) -> tuple[Problem, ...]:
        """What stands in a clip's way, worst first."""
        return () if self.judge is None else self.judge.problems_of(clip_id)

    def poster_of(self, clip_id: str) -> QPixmap | None:
        """The small picture of a clip; where it is not at hand, it will be: who asks is on the screen."""
        poster = self._posters.get(clip_id)
        if poster is None and not self._posters.has_none(clip_id) and not self.is_paused:
            self._wishes[clip_id] = None
            if not self._wish_timer.isActive():
                self._wish_timer.start()
        return poster

    def strip_of(self, clip_id: str) -> QPixmap | None:
        """Small pictures across the clip, side by side; where they are not at hand, they will be.

        Only the clip that was asked for last is waited for.
        """
        strip, source = self._strips.get(clip_id), self.source_of(clip_id)
        if strip is not None or source is None or source.is_image or self._strips.has_none(clip_id):
            return strip
        if ("strip", clip_id) not in self._jobs and not self.is_paused:
            for kind, other in [key for key in self._jobs if key[0] == "strip"]:
                self._pool.cancel([self._jobs.pop((kind, other))])
            self._ask("strip", self._clips[clip_id], VISIBLE)
        return None

    @property
    def waiting(self) -> int:
        """Clips whose files were not looked at yet."""
        return self._waiting

    @property
    def looks_waiting(self) -> int:
        """Clips whose pictures are still to be measured."""
        return self._looks

    def take_caption(self, clip_id: str, text: str | None, problem: str = "") -> None:
        """Know a clip's caption, or why it cannot be read; `tell` makes it news."""
        self._facts[clip_id] = replace(self.facts_of(clip_id), caption=text, caption_problem=problem)

    def caption_written(self, clip_id: str, text: str) -> None:
        """A page changed a clip's caption."""
        self.take_caption(clip_id, text)
        self.tell({clip_id})

    def look_again(self, clip_ids: Collection[str] | None = None) -> None:
        """Look at files that may have changed outside: at these, or read all captions anew."""
        if not self._session.is_open:
            return
        clips = self._session.project.clips
        if clip_ids is None:
            self._read_captions(clips)
            return
        for clip in clips:
            if clip.id in clip_ids:
                self._posters.drop(clip.id)
                self._strips.drop(clip.id)
                self._look_at(clip)
        self._tell_progress()

    def pause(self) -> None:
        """Look at nothing more until `go_on`; what is known stays."""
        self.is_paused = True
        self._pool.cancel(self._jobs.values())
        self._cut_off = {clip_id for kind, clip_id in self._jobs if kind == "probe"}
        self._cut_off |= self._unasked.keys()
        self._jobs.clear()
        self._unasked.clear()
        self._looks = 0
        self._tell_progress()

    def go_on(self) -> None:
        """Look at what is not known yet."""
        self.is_paused = False
        if self._session.is_open:
            for clip in self._session.project.clips:
                facts = self.facts_of(clip.id)
                if not facts.is_known or clip.id in self._cut_off:
                    self._ask("probe", clip, USUAL, self._on_probed)
                elif facts.source is not None and facts.look is None:
                    self._ask("look", clip, IDLE, self._on_looked)
        self._tell_progress()

    def _timer(self, milliseconds: int, on_timeout: Callable[[], object]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(on_timeout)
        return timer

    def _forget(self) -> None:
        self._pool.cancel(self._jobs.values())
        self.is_paused = False
        self._waiting = self._looks = 0
        for known in (
            self._facts,
            self._posters,
            self._strips,
            self._asked,
            self._clips,
            self._jobs,
            self._wishes,
            self._unasked,
        ):
            known.clear()
        self._inbox.clear()

    def _look_at_new_clips(self) -> None:
        if not self._session.is_open:
            return
        clips = self._session.project.clips
        self._clips = {clip.id: clip for clip in clips}
        new = [clip for clip in clips if self._asked.get(clip.id) != clip.source]
        for clip in new:
            self._asked[clip.id] = clip.source
            if clip.id not in self._facts:
                self._facts[clip.id] = _NOTHING
                self._waiting += 1
            self._posters.drop(clip.id)
            self._strips.drop(clip.id)
            self._unasked[clip.id] = clip
        if self._unasked and not self._ask_timer.isActive():
            self._ask_timer.start()
        self._read_captions(new)
        if len(self._facts) != len(clips):
            self._drop_all_but(self._clips)
        self._tell_progress()

    def _ask_some(self) -> None:
        """Ask the workers about new clips, a few at a time: the rows come first."""
        for clip_id in list(self._unasked)[:_ASKED_AT_ONCE]:
            self._look_at(self._unasked.pop(clip_id))
        if self._unasked:
            self._ask_timer.start()

    def _drop_all_but(self, known: Collection[str]) -> None:
        for gone in [clip_id for clip_id in self._facts if clip_id not in known]:
            self._waiting -= not self._facts.pop(gone).is_known
            self._asked.pop(gone, None)
            self._posters.drop(gone)
            self._strips.drop(gone)
            self._unasked.pop(gone, None)
            for kind in ("probe", "poster", "look", "strip"):
                job = self._jobs.pop((kind, gone), None)
                if job is not None:
                    self._looks -= kind == "look"
                    self._pool.cancel([job])

    def _look_at(self, clip: ProjectClip) -> None:
        if not self.is_paused:
            self._ask("probe", clip, USUAL, self._on_probed)

    def _ask(
        self,
        kind: Kind,
        clip: ProjectClip,
        priority: int,
        take: Callable[[str, MediaReply], object] | None = None,
    ) -> None:
        """Ask the workers; `take` is called on the GUI thread, while the clip still has this source."""
        clip_id, path = clip.id, clip.source
        old = self._jobs.pop((kind, clip_id), None)
        if old is not None:
            self._pool.cancel([old])
            self._looks -= kind == "look"
        self._looks += kind == "look"

        def on_reply(reply: MediaReply) -> None:
            # On the pool's thread: what costs time is done here.
            found = decoded_source(reply.source) if reply.source else None
            image = QImage(reply.poster) if reply.poster else None

            def arrive() -> str:
                if self._jobs.get((kind, clip_id)) is not job:
                    return ""
                del self._jobs[kind, clip_id]
                self._looks -= kind == "look"
                if kind == "probe":
                    self._take_source(clip_id, found, reply)
                elif kind == "poster":
                    self._posters.put(clip_id, image)
                elif kind == "strip":
                    self._strips.put(clip_id, image)
                if take is not None:
                    take(clip_id, reply)
                return clip_id

            self._inbox.append(arrive)
            self._arrived.emit()

        job = self._pool.submit(MediaRequest(kind, path, self._cache), on_reply, priority)
        self._jobs[kind, clip_id] = job

    def _on_arrived(self) -> None:
        if not self._inbox_timer.isActive():
            self._inbox_timer.start()

    def _take_in(self) -> None:
        """Take in what arrived, but for no longer than a frame may last; the rest a moment later."""
        changed: set[str] = set()
        end = time.perf_counter() + _SLICE_SECONDS
        while self._inbox and time.perf_counter() < end:
            changed.add(self._inbox.popleft()())
        if self._inbox:
            self._inbox_timer.start()
        self.tell(changed - {""})
        self._tell_progress()

    def _take_source(self, clip_id: str, source: SourceVideo | None, reply: MediaReply) -> None:
        old = self.facts_of(clip_id)
        self._waiting -= not old.is_known
        look = old.look if old.source == source else None
        self._facts[clip_id] = replace(
            old,
            source=source,
            look=look,
            unreadable=f"{reply.problem} {reply.hint}".strip(),
            is_missing=reply.is_missing,
        )

    def _on_probed(self, clip_id: str, reply: MediaReply) -> None:
        if self._posters.has_none(clip_id):
            self._posters.drop(clip_id)
        facts = self.facts_of(clip_id)
        if facts.source is not None and facts.look is None and not self.is_paused:
            self._ask("look", self._clips[clip_id], IDLE, self._on_looked)
        del reply

    def _on_looked(self, clip_id: str, reply: MediaReply) -> None:
        if reply.look is not None:
            self._facts[clip_id] = replace(self.facts_of(clip_id), look=reply.look)

    def _fetch_wishes(self) -> None:
        """Posters for what is on the screen, the first of them first."""
        wishes, self._wishes = self._wishes, {}
        for clip_id in reversed(wishes):
            facts, probing = self.facts_of(clip_id), self._jobs.get(("probe", clip_id))
            if clip_id not in self._clips:
                continue
            if clip_id in self._unasked:
                self._ask("probe", self._unasked.pop(clip_id), VISIBLE, self._on_probed)
                continue
            if probing is not None:
                self._pool.promote([probing])
            elif facts.source is None:
                self._posters.put(clip_id, None)
            elif (poster := self._jobs.get(("poster", clip_id))) is not None:
                self._pool.promote([poster])
            else:
                self._ask("poster", self._clips[clip_id], VISIBLE)

    def _read_captions(self, clips: Sequence[ProjectClip]) -> None:
        folder = self._session.store.captions_folder
        for start in range(0, len(clips), _CAPTIONS_AT_ONCE):
            part = clips[start : start + _CAPTIONS_AT_ONCE]
            run_in_background(lambda part=part: read_captions(part, folder), self._take_captions)

    def _take_captions(self, read: dict[str, tuple[str | None, str]]) -> None:
        changed: set[str] = set()
        for clip_id, (caption, problem) in read.items():
            old = self._facts.get(clip_id)
            if old is not None and (old.caption, old.caption_problem) != (caption, problem):
                self._facts[clip_id] = replace(old, caption=caption, caption_problem=problem)
                changed.add(clip_id)
        self.tell(changed)

    def tell(self, changed: Collection[str]) -> None:
        """Tell that something else is known of these clips."""
        for clip_id in changed:
            self.clip_changed.emit(clip_id)
        if changed:
            self.clips_changed.emit(frozenset(changed))

    def _tell_progress(self) -> None:
        self.progress_changed.emit(self._waiting, len(self._facts))
        self.looks_changed.emit(self._looks)


_NOTHING = ClipFacts()
