"""Orders of captions: the frames that train, each clip once, and proposals that outlive the window."""

import msgspec
import pytest

from tests.media import make_video
from tests.wan_studio.conftest import STAND_IN_CAPTIONER as STAND_IN
from tests.wan_studio.conftest import use_trainer
from trainer.protocol.captioning import request_file
from trainer.protocol.events import CaptionFailed, CaptionMade
from trainer.protocol.run_folder import EventWriter
from trainer.protocol.wire import read_json
from wan_studio.domain.auto_caption import CaptionOptions, Proposal
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.project import Project, ProjectDataset
from wan_studio.services import auto_captions
from wan_studio.services.auto_captions import (
    CaptioningBusyError,
    Order,
    build_order,
    captioning_run,
    load_proposals,
    proposals_of,
    save_proposals,
    start_for_project,
)
from wan_studio.services.clip_import import import_clips
from wan_studio.services.job_preparation import prepare_job
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import process_runs

pytestmark = pytest.mark.media

OPTIONS = CaptionOptions(model="tiny", frames=4, gpu=None)


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=40, fps=20, width=64, height=48)
    return folder


@pytest.fixture
def project(clips_folder):
    settings = settings_for("motion").with_values({"datasets": {"num_frames": 17}})
    return import_clips(Project(name="orbit", trigger="frung", settings=settings), [clips_folder])


def ids(project):
    return [clip.id for clip in project.clips]


def test_the_model_sees_frames_that_train_from_the_trimmed_range_and_the_crop(project, tmp_path):
    a, b = project.clips
    trimmed = msgspec.structs.replace(a, trim=TrimRange(10, 38))
    project = msgspec.structs.replace(project, clips=(trimmed, b))
    trained = prepare_job(project, ProjectStore(tmp_path)).job.datasets[0].clips[0]
    seen = build_order(project, Order(ids(project), OPTIONS)).request.clips[0]
    assert seen.clip.windows[0] == tuple(trained.windows[0][place] for place in (0, 5, 11, 16))
    assert seen.clip.sizes == trained.sizes[-1:]
    assert seen.frames_per_second == pytest.approx(16 * 3 / 16)
    assert seen.clip.caption == ""


def test_a_clip_is_described_once_and_anew_when_what_it_depends_on_changes(project):
    first = build_order(project, Order(ids(project), OPTIONS)).request.clips
    known = {one.id: Proposal(key=one.key, text="x") for one in first}
    done = build_order(project, Order(ids(project), OPTIONS, known))
    assert (done.request, done.done) == (None, 2)
    on_another_card = msgspec.structs.replace(OPTIONS, gpu=1)
    assert build_order(project, Order(ids(project), on_another_card, known)).request is None
    told = msgspec.structs.replace(OPTIONS, instructions={"motion": "Only the weather."})
    assert len(build_order(project, Order(ids(project), told, known)).request.clips) == 2
    trimmed = msgspec.structs.replace(project.clips[0], trim=TrimRange(4, 40))
    changed = msgspec.structs.replace(project, clips=(trimmed, project.clips[1]))
    assert [one.id for one in build_order(changed, Order(ids(project), OPTIONS, known)).request.clips] == [
        trimmed.id
    ]
    failed = {**known, trimmed.id: Proposal(key=first[0].key, problem="It could not be read.")}
    assert len(build_order(project, Order(ids(project), OPTIONS, failed)).request.clips) == 1


def test_a_clip_that_cannot_train_is_a_sentence_and_the_others_are_described(project, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    project = import_clips(project, [bad])
    built = build_order(project, Order(ids(project), OPTIONS))
    assert len(built.request.clips) == 2
    (problem,) = built.problems.values()
    assert "bad.mp4" in problem.problem


def test_clips_without_a_trigger_get_instructions_of_their_own(project, tmp_path):
    make_video(tmp_path / "r.mp4", frames=30, width=64, height=48)
    project = msgspec.structs.replace(project, goal="character").with_dataset(
        ProjectDataset(name="others", role="regularization")
    )
    project = import_clips(project, [tmp_path], dataset="others")
    request = build_order(project, Order(ids(project), OPTIONS)).request
    assert "Call the main character frung" in request.instructions
    assert [bool(one.instructions) for one in request.clips] == [False, False, True]
    assert "frung" not in request.clips[-1].instructions


def test_what_a_process_said_after_the_window_was_closed_is_found_and_decisions_stay(project, tmp_path):
    store, (a, b) = ProjectStore(tmp_path), ids(project)
    run = captioning_run(store)
    run.path.mkdir(parents=True)
    events = EventWriter(run.events_file)
    events.write(CaptionMade(clip=a, key="1", text="theirs"))
    first = load_proposals(store, project)
    assert first.proposals == {a: Proposal(key="1", text="[trigger], Theirs")}
    decided = {a: Proposal(key="1", text="mine", state="skipped")}
    save_proposals(store, msgspec.structs.replace(first, proposals=decided))
    events.write(CaptionMade(clip=b, key="2", text="A cat sits."))
    events.write(CaptionMade(clip="gone", key="3", text="?"))
    events.close()
    news = {b: Proposal(key="2", text="[trigger], a cat sits.")}
    found = load_proposals(store, project)
    assert found.proposals == decided | news
    save_proposals(store, msgspec.structs.replace(found, proposals={}))
    assert load_proposals(store, project).proposals == {}
    auto_captions._proposals_file(store).write_text("{")
    assert set(load_proposals(store, project).proposals) == {a, b}


def test_silence_and_failures_become_problems(project):
    a, b = ids(project)
    found = proposals_of(
        [CaptionMade(clip=a, text=" \n"), CaptionFailed(clip=b, message="It broke.", hint="Mend it.")],
        project,
    )
    assert found[a].problem == "The model said nothing about this clip."
    assert found[b].problem == "It broke. Mend it."


def test_a_second_order_waits_for_the_first_and_gives_up_in_a_sentence(project, tmp_path, monkeypatch, qtbot):
    use_trainer(monkeypatch, tmp_path, STAND_IN)
    monkeypatch.setenv("STAND_IN_CAPTION_SECONDS", "5")
    monkeypatch.setattr(auto_captions, "_PATIENCE_SECONDS", 0.1)
    store = ProjectStore(tmp_path / "project")
    request = build_order(project, Order(ids(project), OPTIONS)).request
    run = start_for_project(store, request)
    assert read_json(request_file(run), type(request)) == request
    with pytest.raises(CaptioningBusyError):
        start_for_project(store, request)
    auto_captions.end_captioning(run)
    qtbot.waitUntil(lambda: not process_runs(run))
