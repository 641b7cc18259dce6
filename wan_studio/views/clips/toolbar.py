"""Above the clips: which data set, a search with its sentence, the order, and grid or table."""

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QComboBox, QLineEdit, QMenu, QSizePolicy, QWidget

from wan_studio.domain.project import MAIN, Project
from wan_studio.models.clip_view_model import Column
from wan_studio.views.theme import GRID, set_icon
from wan_studio.views.widgets import column, label, restyle, row, tool_button

_ORDERS: tuple[tuple[str, Column | None], ...] = (
    ("As added", None),
    *((str(one), one) for one in (Column.NAME, Column.LENGTH, Column.SIZE, Column.RATE, Column.RATING)),
    ("Problems first", Column.STATE),
)
FILTERS: tuple[tuple[str, str], ...] = (
    ("Without caption", "caption:none"),
    ("Learnt faster than it is", "speed:>1.2"),
    ("Shorter than 2 s", "duration:<2"),
    ("Smaller than 512 × 512", "res:<512"),
    ("30 frames a second", "fps:30"),
    ("Rated 4 or 5", "rating:>=4"),
    ("Not rated", "-is:rated"),
    ("Untrimmed", "is:untrimmed"),
    ("Duplicates", "is:duplicate or is:near"),
    ("Images", "is:image"),
    ("Rejected", "is:rejected"),
    ("Usable", "is:usable"),
)
_ALL = "*"


class ClipToolbar(QWidget):
    """What is shown, and in which order and form.

    Signals:
        query_changed: Another search was typed. arg: str
        dataset_changed: Another data set is chosen. arg: its name, empty for the main one; None for all
        order_changed: Another order is chosen. args: Column or None, whether from the largest on
        view_changed: arg: "grid" or "table"
        datasets_toggled: The settings of data sets are wanted or not. arg: bool
        left: Esc or Enter in the search: the keys go to the clips again.
    """

    query_changed = Signal(str)
    dataset_changed = Signal(object)
    order_changed = Signal(object, bool)
    view_changed = Signal(str)
    datasets_toggled = Signal(bool)
    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search, for example speed:>1.2 or caption:none")
        self.search.setAccessibleName("Search clips")
        self.search.setClearButtonEnabled(True)
        self.search.setMinimumWidth(160)
        self.search.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.search.textChanged.connect(self.query_changed)
        self.search.returnPressed.connect(self.left)
        escape = QShortcut(QKeySequence("Esc"), self.search)
        escape.setContext(Qt.ShortcutContext.WidgetShortcut)
        escape.activated.connect(self.left)
        self._problem = label("", "bad", wrap=True)
        self._problem.hide()
        self.dataset = QComboBox()
        self.dataset.setAccessibleName("Data set")
        self.dataset.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.dataset.activated.connect(self._on_dataset_chosen)
        self._filters = tool_button("Filters", "funnel", self._open_filters)
        self._order = QComboBox()
        self._order.setAccessibleName("Order")
        for text, _ in _ORDERS:
            self._order.addItem(text)
        self._order.activated.connect(self._on_order_chosen)
        self._direction = tool_button("From the largest on", "sort-descending", self._on_order_chosen)
        self._direction.setCheckable(True)
        self.settings = tool_button("Data sets", "stack", None)
        self.settings.setCheckable(True)
        self.settings.toggled.connect(self.datasets_toggled)
        self._grid = tool_button("Grid", "squares-four", lambda: self._on_view_chosen("grid"))
        self._table = tool_button("Table", "table", lambda: self._on_view_chosen("table"))
        for one in (self._grid, self._table):
            one.setCheckable(True)
        parts = row(
            *(self.dataset, self.settings, self.search, self._filters),
            *(self._order, self._direction, self._grid, self._table),
        )
        parts.setStretch(2, 1)
        self.setLayout(column(parts, self._problem, gap=GRID // 2))
        self.show_view("grid")

    def show_problem(self, sentence: str) -> None:
        """Say what is wrong with the search; what was found before stays."""
        self._problem.setText(sentence)
        self._problem.setVisible(bool(sentence))
        self.search.setProperty("invalid", "true" if sentence else "false")
        restyle(self.search)

    def show_query(self, text: str) -> None:
        """Put a search into the field."""
        self.search.setText(text)

    def show_view(self, name: str) -> None:
        """Mark grid or table."""
        self._grid.setChecked(name == "grid")
        self._table.setChecked(name == "table")

    def show_order(self, column_: Column | None, *, is_descending: bool) -> None:
        """Mark the order."""
        at = next((at for at, (_, one) in enumerate(_ORDERS) if one is column_), 0)
        self._order.setCurrentIndex(at)
        self._direction.setChecked(is_descending)
        self._direction.setEnabled(column_ is not None)
        set_icon(self._direction, "sort-descending" if is_descending else "sort-ascending")

    def show_datasets(self, project: Project, chosen: str | None) -> None:
        """Offer the project's data sets."""
        counts: dict[str, int] = {}
        for clip in project.clips:
            counts[clip.dataset] = counts.get(clip.dataset, 0) + 1
        names = [MAIN, *(dataset.name for dataset in project.extra_datasets)]
        entries = [(f"All clips ({len(project.clips)})", _ALL)]
        entries += [(f"{name or 'Main'} ({counts.get(name, 0)})", name) for name in names]
        if [
            (self.dataset.itemText(at), self.dataset.itemData(at)) for at in range(self.dataset.count())
        ] != entries:
            self.dataset.clear()
            for text, name in entries:
                self.dataset.addItem(text, name)
        self.dataset.setVisible(True)
        self.dataset.setCurrentIndex(0 if chosen is None else max(0, self.dataset.findData(chosen)))

    def _on_dataset_chosen(self) -> None:
        name = self.dataset.currentData()
        self.dataset_changed.emit(None if name == _ALL else name)

    def _on_order_chosen(self) -> None:
        self.order_changed.emit(_ORDERS[self._order.currentIndex()][1], self._direction.isChecked())

    def _on_view_chosen(self, name: str) -> None:
        self.show_view(name)
        self.view_changed.emit(name)

    def _open_filters(self) -> None:
        menu = QMenu(self)
        for text, query in FILTERS:
            action = menu.addAction(f"{text}\t{query}")
            action.triggered.connect(lambda _=False, query=query: self._insert(query))
        menu.exec(self._filters.mapToGlobal(QPoint(0, self._filters.height())))
        menu.deleteLater()

    def _insert(self, query: str) -> None:
        """Add a filter to what is searched; one with "or" needs brackets beside others."""
        old = self.search.text().strip()
        if query in old:
            return
        self.search.setText(f"{old} {f'({query})' if ' or ' in query else query}" if old else query)
