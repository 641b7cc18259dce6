"""The base model that the LoRA is made for: the miniature, a folder, a file, or a repository's name."""

from pathlib import Path

import msgspec
from PySide6.QtWidgets import QButtonGroup, QFileDialog, QLineEdit, QRadioButton, QVBoxLayout, QWidget

from trainer.protocol.base_names import is_hub_name
from trainer.protocol.job import MINIATURE
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.preset_change import carried_over
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import ElidedLabel, button, card, label, restyle, row

_INDENT = 26
"""Under a radio button's words."""


class ModelCard(QWidget):
    """Which base model trains."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.session = bench.session
        self.setAccessibleName("Base model")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._build())

    def choose_folder(self) -> None:
        """Ask for the model's folder."""
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the Wan 2.2 I2V A14B model")
        if chosen:
            self._set_base(chosen)
        else:
            self.renew()

    def choose_file(self) -> None:
        """Ask for one of the experts' files; the trainer finds the other parts around it."""
        chosen, _ = QFileDialog.getOpenFileName(
            self,
            "One of the two experts of Wan 2.2 I2V A14B",
            "",
            "Weights (*.safetensors *.pth);;All files (*)",
        )
        if chosen:
            self._set_base(chosen)
        else:
            self.renew()

    def use_hub_name(self) -> None:
        """Take the repository that is named in the line, if it can be one."""
        name = self._hub_name.text().strip()
        is_name = is_hub_name(name)
        self._hub_name.setProperty("invalid", not is_name)
        restyle(self._hub_name)
        if is_name:
            self._set_base(name)

    def renew(self) -> None:
        """Show the project's model."""
        base = self.session.project.settings.model.base
        is_miniature = base == MINIATURE
        (self._miniature if is_miniature else self._folder).setChecked(True)
        known = self.bench.settings.values.get("model_folder", "")
        self._path.set_text(known or "Nothing chosen" if is_miniature else base)
        latest = self.bench.hardware.latest
        self._note.setVisible(not is_miniature and latest is not None and not latest.gpus)

    def _build(self) -> QWidget:
        self._miniature = QRadioButton("Miniature, to try everything")
        self._folder = QRadioButton("Wan 2.2 I2V A14B")
        group = QButtonGroup(self)
        group.addButton(self._miniature)
        group.addButton(self._folder)
        self._miniature.clicked.connect(lambda: self._set_base(MINIATURE))
        self._folder.clicked.connect(self._on_folder_chosen)
        self._path = ElidedLabel("", "muted")
        path_row = row(
            self._path,
            button("Choose folder…", self.choose_folder, icon_name="folder-open"),
            button("Choose file…", self.choose_file, icon_name="file"),
        )
        self._hub_name = QLineEdit()
        self._hub_name.setPlaceholderText("Or a repository's name, such as Wan-AI/Wan2.2-I2V-A14B-Diffusers")
        self._hub_name.setAccessibleName("Name of a repository on the Hugging Face Hub")
        self._hub_name.returnPressed.connect(self.use_hub_name)
        hub_row = row(self._hub_name, button("Use name", self.use_hub_name))
        self._note = label(
            "The A14B model needs an NVIDIA GPU to train. The job can be prepared here and trained elsewhere.",
            "warn",
            wrap=True,
        )
        words = label(
            "The same network in small, shipped with the app. It trains on a CPU in minutes; its pictures are "
            "small and blurred, but every step from clips to files is the real one.",
            "muted",
            wrap=True,
        )
        layout_words = label(
            "A folder in the diffusers layout or of the original release; ComfyUI's models folder, or one of its two "
            "expert files, with the VAE and the text encoder in the folders beside it; or a repository of the Hugging "
            "Face Hub.",
            "muted",
            wrap=True,
        )
        for part in (words, layout_words, path_row, hub_row):
            part.setContentsMargins(_INDENT, 0, 0, 0)
        for line in (path_row, hub_row):
            line.setStretch(0, 1)
        return card(
            label("Base model", "section"),
            self._miniature,
            words,
            self._folder,
            layout_words,
            path_row,
            hub_row,
            self._note,
            gap=GRID,
        )

    def _on_folder_chosen(self) -> None:
        known = self.bench.settings.values.get("model_folder", "")
        if known and (Path(known).exists() or is_hub_name(known)):
            self._set_base(known)
        else:
            self.choose_folder()

    def _set_base(self, base: str) -> None:
        project = self.session.project
        if base != MINIATURE:
            self.bench.remember_value("model_folder", base)
        if base == project.settings.model.base:
            self.renew()
            return
        old = project.settings
        settings = carried_over(
            old, settings_for(project.goal, old.model.base), settings_for(project.goal, base)
        )
        edit_project(self.session, "Choose base model", msgspec.structs.replace(project, settings=settings))
