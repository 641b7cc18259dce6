"""One sitting at a project: opened with its undo steps as the window does it, and left or killed."""

from contextlib import contextmanager

import msgspec

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.caption_files import open_with_steps
from wan_studio.services.media_pool import MediaPool
from wan_studio.services.project_store import ProjectStore
from wan_studio.undo.edits import edit_project
from wan_studio.undo.restore import StepRestorer


def make_project(folder, names="abc"):
    """A project of clips without videos; the first two have captions "one" and "two"."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = tuple(
        ProjectClip(id=name, source=str(folder / f"{name}.mp4"), caption_file=str(folder / f"{name}.txt"))
        for name in names
    )
    for name, text in zip(names, ("one", "two"), strict=False):
        (folder / f"{name}.txt").write_text(text)
    store = ProjectStore(folder / "project")
    store.save(Project(name="p", clips=clips))
    return store


class Sitting:
    """The objects of a window, without the window."""

    def __init__(self, qtbot, store, *, waits=True):
        self.qtbot = qtbot
        self.session = ProjectSession()
        self.library = ClipLibrary(self.session, store.folder / "posters", MediaPool(0))
        self.desk = CaptionDesk(self.session, self.library)
        self.refusals = []
        self.desk.step_refused.connect(self.refusals.append)
        StepRestorer(self.session, self.desk)
        fresh = ProjectStore(store.folder)
        project, self.opened = open_with_steps(fresh)
        self.session.open(fresh, project, self.opened)
        ids = [clip.id for clip in project.clips]
        qtbot.waitUntil(lambda: not waits or all(self._is_read(one) for one in ids))

    def _is_read(self, clip_id):
        facts = self.library.facts_of(clip_id)
        return facts.caption is not None or facts.caption_problem

    @property
    def stack(self):
        return self.session.undo_stack

    @property
    def names(self):
        return [self.stack.text(at) for at in range(self.stack.count())]

    def rename(self, name, merge_key=""):
        changed = msgspec.structs.replace(self.session.project, name=name)
        edit_project(self.session, f"Rename to {name}", changed, merge_key)

    def written(self):
        self.qtbot.waitUntil(lambda: self.desk.is_saved and not self.desk._queue)
        self.qtbot.waitUntil(lambda: not self.session._keeper.has_work)

    def leave(self):
        self.desk.save_now()
        self.session.save_now()
        self.session.let_go()
        wait_for_background()


@contextmanager
def sitting(qtbot, store, *, waits=True):
    """A sitting that ends as a closed window does; `waits` until the captions are read."""
    made = Sitting(qtbot, store, waits=waits)
    yield made
    made.leave()
