"""What is known of every caption besides its text: tokens, lint, words in use; kept up in the background."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.job import ModelSection
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, names, trains_as
from wan_studio.domain.caption_lint import Finding, LintContext, Verdict, lint, lint_context, needs_attention
from wan_studio.domain.caption_search import CaptionEntry
from wan_studio.domain.caption_words import WordsInUse
from wan_studio.domain.checks import ClipFacts
from wan_studio.domain.clip_names import clip_label, shared_sources
from wan_studio.domain.project import MAIN
from wan_studio.services.token_counter import ESTIMATE, TokenCounter, load_counter

_AT_ONCE = 40
_GATHER_MILLISECONDS = 30
_GATHER_MANY_MILLISECONDS = 150
_WORDS_AFTER_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class CaptionReading:
    """How one caption trains.

    Attributes:
        prompt: What the model sees.
        tokens: Of that.
        findings: What the lint says.
    """

    prompt: str
    tokens: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One clip as the background needs it."""

    clip_id: str
    name: str
    caption: str
    dataset: str
    is_readable: bool
    is_rejected: bool


class CaptionIndex(QObject):
    """Entries to search, by clip id in the project's order.

    Signals:
        entries_changed: Entries are others now, or there are others.
        counter_changed: Tokens are counted by another tokenizer now.
        words_changed: The words in use are others now.
    """

    entries_changed = Signal()
    counter_changed = Signal()
    words_changed = Signal()

    def __init__(
        self, session: ProjectSession, library: ClipLibrary, is_busy: Callable[[], bool], parent: QObject
    ) -> None:
        """Begin with what is known.

        Args:
            session: Where the project is open.
            library: Knows the captions.
            is_busy: Whether something more urgent is under way, such as files that are being written.
            parent: Owns the index.
        """
        super().__init__(parent)
        self._session = session
        self._library = library
        self._is_busy = is_busy
        self._entries: dict[str, CaptionEntry] = {}
        self._contexts: dict[str, LintContext] = {}
        self._shape: object = None
        self._shared: frozenset[str] = frozenset()
        self._model: ModelSection | None = None
        self._counter = ESTIMATE
        self._touched: set[str] = set()
        self._is_working = False
        self.words = WordsInUse()
        self._by_frames: set[str] = set()
        """Clips named by the frames of their range, for want of its time."""
        self._gather = self._timer(_GATHER_MILLISECONDS, self._renew_touched)
        self._words_timer = self._timer(_WORDS_AFTER_MILLISECONDS, self._renew_words)
        session.project_opened.connect(self._forget)
        session.project_changed.connect(self._on_project_changed)
        library.clips_changed.connect(self._on_clips_changed)
        self._on_project_changed()
        self._renew_touched()

    @property
    def entries(self) -> dict[str, CaptionEntry]:
        """By clip id, in the project's order."""
        return self._entries

    @property
    def counter(self) -> TokenCounter:
        """What counts the tokens."""
        return self._counter

    def label_of(self, clip_id: str) -> str:
        """What the clip is called, with its range where others use its file; empty while that is not known."""
        entry = self._entries.get(clip_id)
        return "" if entry is None else entry.name

    def read(self, clip_id: str, text: str) -> CaptionReading:
        """How this text would train as the clip's caption."""
        dataset = self._session.project.clip(clip_id).dataset
        return _reading(text, self._context(dataset), self._counter)

    def touch(self, clip_ids: frozenset[str]) -> None:
        """These captions changed."""
        if not clip_ids:
            return
        self._touched |= clip_ids
        self._words_timer.start()
        if not self._gather.isActive():
            many = len(self._touched) > _AT_ONCE
            self._gather.start(_GATHER_MANY_MILLISECONDS if many else _GATHER_MILLISECONDS)

    def _on_clips_changed(self, clip_ids: frozenset[str]) -> None:
        """Videos that were looked at change names of ranges alone, and there may be hundreds a second."""
        facts = self._library.facts
        self.touch(frozenset(one for one in clip_ids if self._is_other(one, facts.get(one))))

    def _is_other(self, clip_id: str, facts: ClipFacts | None) -> bool:
        entry = self._entries.get(clip_id)
        if entry is None or facts is None:
            return True
        if clip_id in self._by_frames and facts.source is not None:
            return True
        return (entry.caption, entry.is_readable) != (facts.caption or "", not facts.caption_problem)

    def _forget(self) -> None:
        self._entries, self._shape, self._contexts = {}, None, {}
        self.words = WordsInUse()

    def _context(self, dataset: str) -> LintContext:
        if dataset not in self._contexts:
            self._contexts[dataset] = lint_context(self._session.project, dataset)
        return self._contexts[dataset]

    def _on_project_changed(self) -> None:
        if not self._session.is_open:
            return
        project = self._session.project
        datasets = (MAIN, *(dataset.name for dataset in project.extra_datasets))
        contexts = {name: lint_context(project, name) for name in datasets}
        self._shared = shared_sources(project)
        # Names tell ranges apart: they are others when a trim is.
        shape = [
            (clip.id, clip.dataset, clip.rejected, clip.title, clip.source in self._shared and clip.trim)
            for clip in project.clips
        ]
        if contexts != self._contexts or shape != self._shape:
            self._contexts, self._shape = contexts, shape
            self.touch(frozenset(clip.id for clip in project.clips))
            self._gather.start()
        if project.settings.model != self._model:
            self._model = project.settings.model
            self._load_counter(self._model)

    def _load_counter(self, model: ModelSection) -> None:
        def on_done(counter: TokenCounter) -> None:
            if model is self._model:
                self._counter = counter
                self.counter_changed.emit()
                self.touch(frozenset(clip.id for clip in self._session.project.clips))

        task = run_in_background(lambda: load_counter(model), on_done)
        self.destroyed.connect(task.cancel)

    def _renew_touched(self) -> None:
        if not self._session.is_open:
            return
        if self._is_working or (len(self._touched) > _AT_ONCE and self._is_busy()):
            self._gather.start()
            return
        facts, touched, self._touched = self._library.facts, self._touched, set()
        order: list[str] = []
        items: list[_Item] = []
        for clip in self._session.project.clips:
            order.append(clip.id)
            known = facts.get(clip.id)
            if clip.id not in touched and clip.id in self._entries:
                continue
            if known is None or (known.caption is None and not known.caption_problem):
                continue
            if clip.source in self._shared and known.source is None:
                self._by_frames.add(clip.id)
            else:
                self._by_frames.discard(clip.id)
            items.append(
                _Item(
                    clip.id,
                    clip_label(clip, known.source, is_shared=clip.source in self._shared),
                    known.caption or "",
                    clip.dataset,
                    not known.caption_problem,
                    clip.rejected,
                )
            )
        contexts, counter = dict(self._contexts), self._counter

        def work() -> dict[str, CaptionEntry]:
            return {item.clip_id: _entry(item, contexts[item.dataset], counter) for item in items}

        if len(items) <= _AT_ONCE:
            self._take(work(), order)
            return
        self._is_working = True

        def on_done(made: dict[str, CaptionEntry]) -> None:
            self._is_working = False
            self._take(made, order)

        task = run_in_background(work, on_done)
        self.destroyed.connect(task.cancel)

    def _take(self, made: Mapping[str, CaptionEntry], order: list[str]) -> None:
        known = {**self._entries, **made}
        self._entries = {clip_id: known[clip_id] for clip_id in order if clip_id in known}
        self.entries_changed.emit()

    def _renew_words(self) -> None:
        captions = [entry.caption for entry in self._entries.values()]

        def on_done(words: WordsInUse) -> None:
            self.words = words
            self.words_changed.emit()

        task = run_in_background(lambda: WordsInUse(captions), on_done)
        self.destroyed.connect(task.cancel)

    def _timer(self, milliseconds: int, on_timeout: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(on_timeout)
        return timer


def _reading(text: str, context: LintContext, counter: TokenCounter) -> CaptionReading:
    prompt = trains_as(text, context.trigger, context.default_caption)
    tokens = counter.count(prompt)
    return CaptionReading(prompt, tokens, lint(text, context, tokens))


def _entry(item: _Item, context: LintContext, counter: TokenCounter) -> CaptionEntry:
    reading = _reading(item.caption, context, counter)
    trigger = context.trigger
    return CaptionEntry(
        clip_id=item.clip_id,
        name=item.name,
        caption=item.caption,
        folded=item.caption.casefold(),
        tokens=reading.tokens,
        has_trigger=not trigger or TRIGGER_PLACEHOLDER in item.caption or names(item.caption, trigger),
        findings=frozenset(one.name for one in reading.findings if one.verdict is not Verdict.GOOD),
        needs_attention=not item.is_rejected and (not item.is_readable or needs_attention(reading.findings)),
        is_readable=item.is_readable,
        is_rejected=item.is_rejected,
    )
