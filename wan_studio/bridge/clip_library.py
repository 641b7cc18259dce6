"""What the clips' files say: probed, read and pictured in the background, and kept for every page."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage, QPixmap

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.checks import ClipFacts
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.caption_store import read_caption


class ClipLibrary(QObject):
    """Facts and posters of the open project's clips.

    Signals:
        clip_changed: Something new is known of a clip. arg: clip id
        progress_changed: Clips not yet looked at, of all. args: int, int
    """

    clip_changed = Signal(str)
    progress_changed = Signal(int, int)

    def __init__(self, session: ProjectSession, posters_folder: Path) -> None:
        super().__init__(session)
        self._session = session
        self._posters_folder = posters_folder
        self._facts: dict[str, ClipFacts] = {}
        self._posters: dict[str, QPixmap] = {}
        self._asked: dict[str, str] = {}
        session.project_opened.connect(self._forget)
        session.project_changed.connect(self._look_at_new_clips)

    @property
    def facts(self) -> dict[str, ClipFacts]:
        """What is known, by clip id."""
        return self._facts

    def facts_of(self, clip_id: str) -> ClipFacts:
        """What is known of a clip; empty facts while nothing is."""
        return self._facts.get(clip_id, ClipFacts())

    def source_of(self, clip_id: str) -> SourceVideo | None:
        """The probed video of a clip, once it is known and readable."""
        return self.facts_of(clip_id).source

    def poster_of(self, clip_id: str) -> QPixmap | None:
        """The small picture of a clip, once it is made."""
        return self._posters.get(clip_id)

    @property
    def waiting(self) -> int:
        """Clips whose files were not looked at yet."""
        return sum(not facts.is_known for facts in self._facts.values())

    def take_caption(self, clip_id: str, text: str | None, problem: str = "") -> None:
        """Know a clip's caption, or why it cannot be read; whoever tells this emits `clip_changed` too."""
        self._facts[clip_id] = replace(self.facts_of(clip_id), caption=text, caption_problem=problem)

    def look_again(self) -> None:
        """Read everything anew: files may have changed outside."""
        self._asked.clear()
        self._look_at_new_clips()

    def _forget(self) -> None:
        self._facts.clear()
        self._posters.clear()
        self._asked.clear()

    def _look_at_new_clips(self) -> None:
        if not self._session.is_open:
            return
        clips = self._session.project.clips
        for clip in clips:
            if self._asked.get(clip.id) != clip.source:
                self._asked[clip.id] = clip.source
                self._facts.setdefault(clip.id, ClipFacts())
                self._look_at(clip)
        known = {clip.id for clip in clips}
        for gone in [clip_id for clip_id in self._facts if clip_id not in known]:
            del self._facts[gone]
            self._asked.pop(gone, None)
        self.progress_changed.emit(self.waiting, len(self._facts))

    def _look_at(self, clip: ProjectClip) -> None:
        def on_done(facts: ClipFacts) -> None:
            if clip.id not in self._facts or self._asked.get(clip.id) != clip.source:
                return
            self._facts[clip.id] = facts
            self.clip_changed.emit(clip.id)
            self.progress_changed.emit(self.waiting, len(self._facts))
            if facts.source is not None:
                self._make_poster(clip.id, facts.source)

        run_in_background(lambda: _read_facts(clip), on_done)

    def _make_poster(self, clip_id: str, source: SourceVideo) -> None:
        def on_done(image: QImage) -> None:
            if clip_id in self._facts and not image.isNull():
                self._posters[clip_id] = QPixmap.fromImage(image)
                self.clip_changed.emit(clip_id)

        folder = self._posters_folder
        # A clip without a picture says in its list why: the same file is probed there.
        run_in_background(lambda: _poster(folder, source), on_done, lambda _: None)


def _poster(folder: Path, source: SourceVideo) -> QImage:
    """The poster as a picture; on a pool thread."""
    # The decoder's libraries are imported by the worker that needs them: the window is there before.
    from wan_studio.services.thumbnail_cache import ThumbnailCache

    return QImage(str(ThumbnailCache(folder).poster(source)))


def _read_facts(clip: ProjectClip) -> ClipFacts:
    """Probe the video and read its caption; on a pool thread."""
    from wan_studio.services.media_probe import probe

    facts = ClipFacts()
    try:
        facts = replace(facts, source=probe(Path(clip.source)))
    except AppError as error:
        facts = replace(facts, unreadable=str(error))
    except OSError as error:
        facts = replace(facts, unreadable=f"{clip.source} cannot be read ({error.strerror or error}).")
    try:
        facts = replace(facts, caption=read_caption(Path(clip.caption_file)).text)
    except (AppError, OSError) as error:
        facts = replace(facts, caption_problem=str(error))
    return facts
