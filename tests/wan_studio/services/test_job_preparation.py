import msgspec
import pytest

from tests.media import make_video
from wan_studio.domain.job_builder import NothingToTrainError
from wan_studio.domain.project import Project, ProjectDataset, Settings
from wan_studio.services.caption_place import place_of
from wan_studio.services.caption_store import CaptionEncodingError
from wan_studio.services.clip_import import import_clips
from wan_studio.services.job_preparation import prepare_job
from wan_studio.services.media_probe import UnreadableVideoError
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in (1, 2, 10):
        make_video(folder / f"clip{number}.mp4", frames=40, fps=24)
        (folder / f"clip{number}.txt").write_text(f"[trigger] number {number}\n")
    return folder


def made(clips, **changes) -> Project:
    return import_clips(Project(name="p", trigger="w", **changes), [clips])


def test_a_job_is_prepared_from_the_files_and_nothing_is_written(tmp_path, clips):
    store = ProjectStore(tmp_path / "project")
    progress = []
    built = prepare_job(made(clips), store, lambda *told: progress.append(told))
    assert [clip.caption for clip in built.job.clips] == ["w number 1", "w number 2", "w number 10"]
    assert built.job.cache_folder == str(store.cache_folder)
    assert progress == [(1, 3, "clip1.mp4"), (2, 3, "clip2.mp4"), (3, 3, "clip10.mp4")]
    assert not store.folder.exists()
    # 40 frames at 24 a second hold 26 sixteenths.
    assert all(len(clip.windows[0]) == 25 for clip in built.job.clips)


def test_an_unreadable_clip_is_left_out_with_its_reason_or_refused(tmp_path, clips):
    (clips / "broken.mp4").write_text("no video")
    project, store = made(clips), ProjectStore(tmp_path / "project")
    built = prepare_job(project, store)
    assert len(built.job.clips) == 3
    assert "broken.mp4 is not a video" in built.notes[0]
    assert built.notes[0].endswith("It is left out.")
    with pytest.raises(UnreadableVideoError, match=r"broken\.mp4"):
        prepare_job(project, store, refuse_unreadable=True)


def test_a_caption_in_another_encoding_is_refused(tmp_path, clips):
    (clips / "clip2.txt").write_bytes("ゆっくりと回る".encode("cp932"))
    with pytest.raises(CaptionEncodingError, match=r"clip2\.txt"):
        prepare_job(made(clips), ProjectStore(tmp_path / "project"))


def test_a_caption_that_is_kept_in_the_project_trains(tmp_path, clips):
    project, store = made(clips), ProjectStore(tmp_path / "project")
    place = place_of(project.clips[1], store.captions_folder)
    place.kept.parent.mkdir(parents=True)
    place.kept.write_text("[trigger] kept")
    built = prepare_job(project, store)
    assert [clip.caption for clip in built.job.clips] == ["w number 1", "w kept", "w number 10"]


def test_missing_captions_are_counted(tmp_path, clips):
    (clips / "clip1.txt").unlink()
    (clips / "clip2.txt").write_text(" \n")
    store = ProjectStore(tmp_path / "project")
    assert any(note.startswith("2 clips have no caption") for note in prepare_job(made(clips), store).notes)
    settings = Settings().with_text("datasets.default_caption=a clip, [trigger]")
    built = prepare_job(made(clips, settings=settings), store)
    assert not any("no caption" in note for note in built.notes)
    assert built.job.clips[0].caption == "a clip, w"


def test_a_rejected_clip_is_not_even_looked_at(tmp_path, clips):
    (clips / "broken.mp4").write_text("no video")
    project = made(clips)
    broken = next(clip for clip in project.clips if "broken" in clip.source)
    project = project.with_clip(msgspec.structs.replace(broken, rejected=True))
    built = prepare_job(project, ProjectStore(tmp_path / "project"), refuse_unreadable=True)
    assert len(built.job.clips) == 3


def test_a_project_without_clips_cannot_train(tmp_path):
    with pytest.raises(NothingToTrainError):
        prepare_job(Project(name="p"), ProjectStore(tmp_path))


def test_further_data_sets_come_from_folders_of_their_own(tmp_path, clips):
    inner = clips / "people"
    inner.mkdir()
    make_video(inner / "walker.mp4", frames=40, fps=24)
    (inner / "walker.txt").write_text("[trigger] a man walks")
    make_video(inner / "mute.mp4", frames=40, fps=24)
    project = Project(
        name="p", trigger="w", extra_datasets=(ProjectDataset(name="people", role="regularization"),)
    )
    # The inner folder first: then the outer one leaves its clips where they are.
    project = import_clips(import_clips(project, [inner], dataset="people"), [clips])
    built = prepare_job(project, ProjectStore(tmp_path / "project"))
    main, people = built.job.datasets
    assert [clip.caption for clip in main.clips] == ["w number 1", "w number 2", "w number 10"]
    assert [clip.caption for clip in people.clips] == ["", "a man walks"]
    assert (main.role, people.role) == ("training", "regularization")
    assert "1 clip of the data set people has no caption and will train with an empty prompt." in built.notes


def test_a_clip_moves_to_a_further_data_set_but_not_back_by_itself(clips):
    project = made(clips)
    trimmed = msgspec.structs.replace(project.clips[1], rejected=True)
    project = project.with_clip(trimmed).with_dataset(ProjectDataset(name="unseen", role="validation"))
    project = import_clips(project, [clips / "clip2.mp4"], dataset="unseen")
    assert project.clips[1] == msgspec.structs.replace(trimmed, dataset="unseen")
    assert import_clips(project, [clips]) == project
