"""Joins automatic captions to the page: clips to describe, captions to compare with, and acceptance as one step."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.auto_caption import CaptionOptions
from wan_studio.models.proposal_list_model import ProposalRow
from wan_studio.undo.caption_edits import edit_captions
from wan_studio.views.captions.auto_panel import AutoPanel
from wan_studio.views.captions.auto_setup import Scope
from wan_studio.views.captions.desk_top import DeskTop
from wan_studio.views.wording import count


class AutomaticCaptions(QObject):
    """The one place where a proposal becomes a caption."""

    def __init__(self, bench: Workbench, top: DeskTop, selected_ids: Callable[[], Sequence[str]]) -> None:
        """Join them.

        Args:
            bench: What the pages share.
            top: Where the panel is shown.
            selected_ids: Gives the clips that are selected in the page's list.
        """
        super().__init__(top)
        self._bench = bench
        self._desk = bench.auto_captions
        self._top = top
        self._selected_ids = selected_ids
        self.panel = AutoPanel(bench, self.ids_in, self.rows)
        panel, review = self.panel, self.panel.review
        panel.close_wanted.connect(top.show_clip)
        panel.setup.start_wanted.connect(self._on_start_wanted)
        review.clip_chosen.connect(bench.session.select_clip)
        review.edited.connect(self._on_edited)
        review.accept_wanted.connect(self.accept)
        review.skip_wanted.connect(self._desk.skip)
        review.again_wanted.connect(self._desk.forget)
        review.bring_back_wanted.connect(self._desk.bring_back)
        bench.captions.captions_changed.connect(self._on_captions_changed)
        bench.session.clip_selected.connect(self._on_clip_selected)

    def open(self) -> None:
        """Show the panel below the clip."""
        self._top.show_below(self.panel)
        self.panel.open()
        self.panel.review.select(self._bench.session.clip_id)

    def renew(self) -> None:
        """The selection in the list is another one."""
        if self.panel.isVisible():
            self.panel.setup.renew()

    def ids_in(self, scope: Scope) -> list[str]:
        """The clips of a scope that can be described: not rejected, their video and their caption readable."""
        session = self._bench.session
        if not session.is_open:
            return []
        chosen = frozenset(self._selected_ids())
        library = self._bench.library
        clips = [
            clip.id
            for clip in session.project.clips
            if not clip.rejected and not library.facts_of(clip.id).unreadable
        ]
        texts = self._bench.captions.texts_of(clips)
        return [
            clip_id
            for clip_id, text in texts.items()
            if scope == "all"
            or (scope == "selected" and clip_id in chosen)
            or (scope == "empty" and not text.strip())
        ]

    def rows(self) -> list[ProposalRow]:
        """The proposals that wait for the user, beside the present captions, in the project's order."""
        session = self._bench.session
        if not session.is_open:
            return []
        proposals = self._desk.proposals
        waiting = [
            clip for clip in session.project.clips if clip.id in proposals and proposals[clip.id].is_waiting
        ]
        texts = self._bench.captions.texts_of([clip.id for clip in waiting])
        return [ProposalRow(clip.id, clip.name, texts.get(clip.id), proposals[clip.id]) for clip in waiting]

    def accept(self, clip_ids: Sequence[str]) -> None:
        """Let these proposals become the captions, in one step that can be undone."""
        wanted = frozenset(clip_ids)
        rows = [one for one in self.panel.review.model.rows if one.clip_id in wanted and one.can_be_accepted]
        texts = {one.clip_id: one.proposal.text.strip() for one in rows}
        if not texts:
            return
        edit_captions(
            self._bench.session,
            self._bench.captions,
            f"Automatic captions for {count(len(texts), 'clip')}",
            texts,
        )
        self._desk.accept(texts)
        self._top.say(f"{count(len(texts), 'caption')} accepted; Ctrl+Z takes it back")

    def _on_edited(self, clip_id: str, text: str) -> None:
        self._desk.edit(clip_id, text)
        self.panel.renew_rows()

    def _on_start_wanted(
        self,
        clip_ids: list[str],
        options: CaptionOptions,
        is_after: bool,  # noqa: FBT001 - a slot
    ) -> None:
        self._desk.start(clip_ids, options, after_training=is_after)

    def _on_captions_changed(self) -> None:
        if self.panel.isVisible():
            self.panel.renew_rows()
            self.panel.setup.renew()

    def _on_clip_selected(self, clip_id: str) -> None:
        if self.panel.isVisible():
            self.panel.review.select(clip_id)
