from PySide6.QtCore import Qt

from trainer.protocol.events import CheckpointSaved, PreviewSaved
from wan_studio.domain.run_state import RunState
from wan_studio.models.checkpoint_list_model import CheckpointListModel


def preview(step, row):
    return PreviewSaved(step=step, row=row, video=f"{step}/{row}.mp4", poster="")


def test_steps_come_newest_first_with_their_previews_in_order(qapp):
    model = CheckpointListModel()
    state = RunState(
        checkpoints=(CheckpointSaved(step=100, path="a"), CheckpointSaved(step=200, path="b")),
        previews=(preview(200, 1), preview(200, 0), preview(150, 0)),
    )
    assert model.show(state)
    rows = [model.index(at).data(Qt.ItemDataRole.UserRole) for at in range(model.rowCount())]
    assert [row.step for row in rows] == [200, 150, 100]
    assert [p.row for p in rows[0].previews] == [0, 1]
    assert rows[1].checkpoint is None
    assert model.index(1).data() == "Step 150   preview only"


def test_the_same_state_changes_nothing(qapp):
    model = CheckpointListModel()
    state = RunState(checkpoints=(CheckpointSaved(step=100, path="a"),))
    assert model.show(state)
    assert not model.show(state)
