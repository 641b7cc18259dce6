"""What this machine has, and which base model trains."""

from pathlib import Path

import msgspec
from PySide6.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QGridLayout,
    QLabel,
    QLineEdit,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.base_names import is_hub_name
from trainer.protocol.job import MINIATURE
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot
from wan_studio.domain.preset_change import carried_over
from wan_studio.domain.project import Settings
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.hardware.gpu_fields import GPU_FIELDS
from wan_studio.views.hardware_strip import Meter
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.training.fields import SettingRow
from wan_studio.views.training.specs import FieldSpec
from wan_studio.views.widgets import (
    ElidedLabel,
    IconLabel,
    button,
    card,
    label,
    readable,
    restyle,
    row,
    scrolled,
)
from wan_studio.views.wording import gigabytes


class HardwarePage(Page):
    """GPU, memory and disk as they are now, and the model."""

    step = Step.HARDWARE
    title = "Hardware"
    subtitle = "What this machine has now, and the base model that the LoRA is made for."

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._build()
        bench.hardware.snapshot_taken.connect(self._show_snapshot)
        bench.session.project_changed.connect(self._renew)
        if bench.hardware.latest is not None:
            self._show_snapshot(bench.hardware.latest)
        self._renew()

    def primary(self) -> Primary | None:
        """On to the settings."""
        wrong = [made.spec.label for made in self._gpu_rows if made.problem]
        if wrong:
            return Primary("Continue to training", is_enabled=False, hint=f"Mend first: {', '.join(wrong)}")
        return Primary("Continue to training", icon_name="arrow-right")

    def run_primary(self) -> None:
        """On to the settings."""
        self.step_wanted.emit(Step.TRAINING)

    def choose_folder(self) -> None:
        """Ask for the model's folder."""
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the Wan 2.2 I2V A14B model")
        if chosen:
            self._set_base(chosen)
        else:
            self._renew()

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
            self._renew()

    def use_hub_name(self) -> None:
        """Take the repository that is named in the line, if it can be one."""
        name = self._hub_name.text().strip()
        is_name = is_hub_name(name)
        self._hub_name.setProperty("invalid", not is_name)
        restyle(self._hub_name)
        if is_name:
            self._set_base(name)

    def _build_model(self) -> QWidget:
        self._miniature = QRadioButton("Miniature, to try everything")
        self._folder = QRadioButton("Wan 2.2 I2V A14B")
        group = QButtonGroup(self)
        group.addButton(self._miniature)
        group.addButton(self._folder)
        self._miniature.clicked.connect(lambda: self._set_base(MINIATURE))
        self._folder.clicked.connect(self._on_folder_chosen)
        self._path = ElidedLabel("", "muted")
        self._choose = button("Choose folder…", self.choose_folder, icon_name="folder-open")
        self._choose_file = button("Choose file…", self.choose_file, icon_name="file")
        path_row = row(self._path, self._choose, self._choose_file)
        path_row.setContentsMargins(26, 0, 0, 0)
        path_row.setStretch(0, 1)
        self._hub_name = QLineEdit()
        self._hub_name.setPlaceholderText("Or a repository's name, such as Wan-AI/Wan2.2-I2V-A14B-Diffusers")
        self._hub_name.setAccessibleName("Name of a repository on the Hugging Face Hub")
        self._hub_name.returnPressed.connect(self.use_hub_name)
        hub_row = row(self._hub_name, button("Use name", self.use_hub_name))
        hub_row.setContentsMargins(26, 0, 0, 0)
        hub_row.setStretch(0, 1)
        self._model_note = label("", "warn", wrap=True)
        words = label(
            "The same network in small, shipped with the app. It trains on a CPU in minutes; its pictures are "
            "small and blurred, but every step from clips to files is the real one.",
            "muted",
            wrap=True,
        )
        words.setContentsMargins(26, 0, 0, 0)
        layout_words = label(
            "A folder in the diffusers layout or of the original release; ComfyUI's models folder, or one of its two "
            "expert files, with the VAE and the text encoder in the folders beside it; or a repository of the Hugging "
            "Face Hub.",
            "muted",
            wrap=True,
        )
        layout_words.setContentsMargins(26, 0, 0, 0)
        return card(
            label("Base model", "section"),
            self._miniature,
            words,
            self._folder,
            layout_words,
            path_row,
            hub_row,
            self._model_note,
        )

    def _build(self) -> None:
        self._gpu_icon = IconLabel("cpu", "accent", 24)
        self._gpu_name = label("Looking at the hardware", "section")
        self._gpu_text = label("", "muted", wrap=True)
        meters = QGridLayout()
        meters.setHorizontalSpacing(2 * GRID)
        meters.setVerticalSpacing(GRID)
        self._meters: dict[str, Meter] = {}
        self._figures: dict[str, QLabel] = {}
        for at, name in enumerate(("VRAM", "GPU load", "RAM", "Disk")):
            meter, figure = Meter(name, 220), label("", "body")
            figure.setFont(numeric_font())
            words = label(name, "muted")
            for column, part in enumerate((words, meter, figure)):
                meters.addWidget(part, at, column)
            self._meters[name], self._figures[name] = meter, figure
        meters.setColumnMinimumWidth(0, 88)
        meters.setColumnStretch(2, 1)
        head = row(self._gpu_icon, self._gpu_name, None)
        machine = card(head, self._gpu_text, meters, gap=GRID + 4)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(machine)
        layout.addWidget(self._build_gpus())
        layout.addWidget(self._build_model())
        layout.addStretch(1)
        self.add(scrolled(readable(content, 760), name="Hardware"), 1)

    def _build_gpus(self) -> QWidget:
        self._gpu_rows = [SettingRow(spec, lambda: self.session.project.settings) for spec in GPU_FIELDS]
        for made in self._gpu_rows:
            made.edited.connect(self._on_edited)
            made.problem_changed.connect(self.primary_changed)
        self._gpu_list = label("", "muted", wrap=True)
        self._gpus = card(label("GPUs that train", "section"), self._gpu_list, *self._gpu_rows, gap=GRID + 4)
        return self._gpus

    def _show_snapshot(self, snapshot: HardwareSnapshot) -> None:
        gpu = self._chosen_gpu(snapshot)
        self._gpu_list.setText(
            "\n".join(
                f"{one.index}: {one.label}, {gigabytes(one.vram_total_bytes or 0)}" for one in snapshot.gpus
            )
        )
        self._gpu_list.setVisible(len(snapshot.gpus) > 1)
        self._gpu_icon.show_icon("cpu" if gpu else "warning-circle", "accent" if gpu else "warn")
        self._gpu_name.setText(gpu.label if gpu else "No NVIDIA GPU")
        self._gpu_text.setText(_gpu_text(snapshot, gpu))
        if gpu is not None:
            free, total = gpu.vram_free_bytes, gpu.vram_total_bytes
            words = "not told by the driver"
            if free is not None and total is not None:
                words = f"{gigabytes(free)} free of {gigabytes(total)}"
            self._show_meter("VRAM", gpu.vram_share, words)
            load = gpu.utilization_percent
            self._show_meter(
                "GPU load", (load or 0) / 100, "not told by the driver" if load is None else f"{load} %"
            )
        else:
            self._show_meter("VRAM", 0.0, "none")
            self._show_meter("GPU load", 0.0, "none")
        total = max(snapshot.ram_total_bytes, 1)
        self._show_meter(
            "RAM",
            1 - snapshot.ram_available_bytes / total,
            f"{gigabytes(snapshot.ram_available_bytes)} free of {gigabytes(total)}",
        )
        self._figures["Disk"].setText(f"{gigabytes(snapshot.disk_free_bytes)} free for projects")
        self._meters["Disk"].setVisible(False)
        self._renew_note(has_gpu=gpu is not None)

    def _chosen_gpu(self, snapshot: HardwareSnapshot) -> GpuSnapshot | None:
        """The GPU that the project trains on; the first one where there is no such."""
        return snapshot.gpu_or_first(self.session.project.settings.job.gpu if self.session.is_open else 0)

    def _show_meter(self, name: str, share: float, text: str) -> None:
        self._meters[name].set_share(share)
        self._figures[name].setText(text)

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        project = self.session.project
        base = project.settings.model.base
        is_miniature = base == MINIATURE
        (self._miniature if is_miniature else self._folder).setChecked(True)
        known = self.bench.settings.values.get("model_folder", "")
        self._path.set_text(known or "Nothing chosen" if is_miniature else base)
        latest = self.bench.hardware.latest
        if latest is not None:
            self._show_snapshot(latest)
        self._renew_note(has_gpu=latest is None or bool(latest.gpus))
        preset = settings_for(project.goal, base)
        for made in self._gpu_rows:
            made.show_value(project.settings, preset)
            made.setVisible(made.spec.is_shown_in(project.settings))
        # The miniature on a CPU has no GPU to choose; a job for another machine has.
        self._gpus.setVisible(not is_miniature or (latest is not None and bool(latest.gpus)))

    def _renew_note(self, *, has_gpu: bool) -> None:
        needs_gpu = self.session.is_open and self.session.project.settings.model.base != MINIATURE
        self._model_note.setVisible(needs_gpu and not has_gpu)
        self._model_note.setText(
            "The A14B model needs an NVIDIA GPU to train. The job can be prepared here and trained elsewhere."
        )

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label}", changed, merge_key=spec.name)

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
            self._renew()
            return
        old = project.settings
        settings = carried_over(
            old, settings_for(project.goal, old.model.base), settings_for(project.goal, base)
        )
        edit_project(self.session, "Choose base model", msgspec.structs.replace(project, settings=settings))


def _gpu_text(snapshot: HardwareSnapshot, gpu: GpuSnapshot | None) -> str:
    if gpu is None:
        return (
            f"{snapshot.gpu_problem} Clips, trims and captions can be prepared here all the same, and the "
            "miniature trains on the CPU."
        )
    if not gpu.is_ready:
        return f"{gpu.words.text} {gpu.words.hint}"
    figures = []
    if gpu.temperature_celsius is not None:
        figures.append(f"{gpu.temperature_celsius} °C")
    if gpu.power_watts is not None:
        figures.append(f"{gpu.power_watts:.0f} W")
    others = f" {len(snapshot.gpus) - 1} more in this machine." if len(snapshot.gpus) > 1 else ""
    return f"GPU {gpu.index}, {', '.join(figures)}.{others}" if figures else f"GPU {gpu.index}.{others}"


def make_page(bench: Workbench) -> Page:
    """The page."""
    return HardwarePage(bench)
