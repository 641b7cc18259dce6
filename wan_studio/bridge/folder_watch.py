"""Watches the clips' folders for what others do there, by listing them now and then in the background.

Not by the system's notices: network drives give none, and every system has another limit of them.
"""

import time

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.folder_news import FolderNews, WatchedClip

_EVERY_MILLISECONDS = 4000
_SHARE_OF_TIME = 50
"""A listing that takes long is waited for fifty times as long."""


class FolderWatch(QObject):
    """Has files looked at again that changed, and tells what else is new.

    Signals:
        news_changed: Files beside the clips came, or clips changed or vanished. arg: FolderNews
    """

    news_changed = Signal(object)

    def __init__(self, session: ProjectSession, library: ClipLibrary) -> None:
        super().__init__(library)
        self._session = session
        self._library = library
        self._told: FolderNews | None = None
        self._ignored: set[str] = set()
        self._is_at_work = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_EVERY_MILLISECONDS)
        self._timer.timeout.connect(self.look_now)
        session.project_opened.connect(self._on_project_opened)

    def look_now(self) -> None:
        """Compare now."""
        if self._is_at_work or not self._session.is_open:
            return
        project, began = self._session.project, time.monotonic()
        watched = self._watched()
        self._is_at_work = True

        def work() -> FolderNews:
            from wan_studio.services.folder_scan import scan

            return scan(watched)

        def on_done(news: FolderNews) -> None:
            self._is_at_work = False
            took = time.monotonic() - began
            self._timer.start(max(_EVERY_MILLISECONDS, round(1000 * took * _SHARE_OF_TIME)))
            if self._session.is_open and self._session.project.name == project.name:
                self._take(news)

        run_in_background(work, on_done)

    def ignore_new(self, news: FolderNews) -> None:
        """The user does not want these files; say no more about them until the project is opened again."""
        self._ignored |= {str(path) for path in news.new}

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.stop()

    def _on_project_opened(self) -> None:
        self._told = None
        self._ignored = set()
        self._timer.start(_EVERY_MILLISECONDS)

    def _watched(self) -> list[WatchedClip]:
        watched: list[WatchedClip] = []
        for clip in self._session.project.clips:
            facts = self._library.facts_of(clip.id)
            if facts.is_known:
                source = facts.source
                stamp = None if source is None else (source.size_bytes, source.modified_ns)
                watched.append(WatchedClip(clip.id, clip.source, stamp, facts.is_missing))
        return watched

    def _take(self, news: FolderNews) -> None:
        known = {clip.source for clip in self._session.project.clips}
        new = tuple(path for path in news.new if str(path) not in self._ignored and str(path) not in known)
        news = FolderNews(news.changed, news.vanished, new)
        self._library.look_again(news.changed | news.vanished)
        old, self._told = self._told, news
        if news != old and (old is not None or news.changed or news.vanished):
            self.news_changed.emit(news)
