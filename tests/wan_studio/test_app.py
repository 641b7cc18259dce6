import subprocess
import sys

from wan_studio import app


def test_an_exception_in_a_slot_is_logged_and_shown_and_the_window_lives(caplog):
    shown = []
    hook = app._exception_hook(shown.append)
    error = ValueError("a fault in a slot")
    hook(type(error), error, None)
    assert [str(error) for error in shown] == ["a fault in a slot"]
    assert "a fault in a slot" in caplog.text


def test_the_window_needs_neither_torch_nor_the_plots_nor_the_decoder_to_come_up(home):
    code = (
        "import sys\n"
        "from PySide6.QtWidgets import QApplication\n"
        "from wan_studio.app import build_window\n"
        "application = QApplication([])\n"
        "window = build_window(application)\n"
        "heavy = {'torch', 'diffusers', 'pyqtgraph', 'av', 'numpy', 'pynvml'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_last_project_comes_back_unless_it_is_gone(home, tmp_path, qapp):
    from wan_studio.bridge.workbench import Workbench

    bench = Workbench()
    assert app._last_project(bench) is None
    (tmp_path / "p").mkdir()
    bench.remember(bench.settings.with_recent_project(tmp_path / "p"))
    assert app._last_project(bench) is None
    (tmp_path / "p" / "project.json").write_text("{}")
    assert app._last_project(Workbench()) == tmp_path / "p"
