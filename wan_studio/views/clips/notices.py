"""Calm bars above the clips: what a chosen finding means, and what others did in the folders."""

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from wan_studio.domain.checks import Level
from wan_studio.domain.clip_health import FindingKind
from wan_studio.domain.folder_news import FolderNews
from wan_studio.views.clips.delegate import LEVEL_TONES
from wan_studio.views.theme import GRID, ToneName
from wan_studio.views.widgets import Banner
from wan_studio.views.wording import count


class ClipNotices(QWidget):
    """Two bars, hidden while there is nothing to say.

    Signals:
        remedy_wanted: Do what is offered against a finding. arg: FindingKind
        closed: The finding's bar was closed.
        new_files_wanted: Take these files into the project. arg: list of Path
        new_files_refused: Say no more about them. arg: FolderNews
        relink_wanted: Look for missing files.
    """

    remedy_wanted = Signal(object)
    closed = Signal()
    new_files_wanted = Signal(object)
    new_files_refused = Signal(object)
    relink_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._news: FolderNews | None = None
        self.finding = Banner()
        self.finding.dismissed.connect(self.closed)
        self.news = Banner()
        self.news.dismissed.connect(self._on_news_dismissed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addWidget(self.news)
        layout.addWidget(self.finding)
        self._renew()

    def show_finding(self, kind: FindingKind) -> None:
        """Say what a finding means, with its remedy on a button."""
        tone: ToneName = "accent" if kind.level is Level.NOTE else LEVEL_TONES[kind.level]
        action = (kind.remedy_text, lambda: self.remedy_wanted.emit(kind)) if kind.remedy else None
        words = kind.words[:1].upper() + kind.words[1:]
        self.finding.show_message(f"{words}: {kind.text}", tone_name=tone, action=action)
        self._renew()

    def clear_finding(self) -> None:
        """Say nothing about a finding."""
        self.finding.hide()
        self._renew()

    def show_news(self, news: FolderNews) -> None:
        """Say what others did in the folders."""
        self._news = news
        if news.new:
            names = ", ".join(path.name for path in news.new[:3])
            more = f" and {len(news.new) - 3} more" if len(news.new) > 3 else ""
            take = (f"Add {count(len(news.new), 'clip')}", lambda: self._take(news))
            self.news.show_message(f"New beside your clips: {names}{more}.", action=take)
        elif news.vanished:
            what = count(len(news.vanished), "file")
            self.news.show_message(
                f"{what} vanished from the folders of your clips.",
                "They may have been moved or renamed.",
                tone_name="warn",
                action=("Find them…", self.relink_wanted.emit),
            )
        elif news.changed:
            what = count(len(news.changed), "file")
            self.news.show_message(f"{what} changed outside; looked at again.")
        self._renew()

    def show_relinked(self, found: int, missing: int, folder: Path) -> None:
        """Say how many missing files were found."""
        if found == missing:
            self.news.show_message(f"{count(found, 'clip')} found again.", tone_name="good")
        else:
            self.news.show_message(
                f"{found} of {count(missing, 'missing clip')} found in {folder}.",
                "The others are not there, or have other contents.",
                tone_name="warn",
                action=("Look elsewhere…", self.relink_wanted.emit),
            )
        self._renew()

    def clear(self) -> None:
        """Say nothing."""
        self.finding.hide()
        self.news.hide()
        self._renew()

    def _take(self, news: FolderNews) -> None:
        self.news.hide()
        self._renew()
        self.new_files_wanted.emit(list(news.new))

    def _on_news_dismissed(self) -> None:
        if self._news is not None and self._news.new:
            self.new_files_refused.emit(self._news)
        self._renew()

    def _renew(self) -> None:
        self.setVisible(not self.finding.isHidden() or not self.news.isHidden())
