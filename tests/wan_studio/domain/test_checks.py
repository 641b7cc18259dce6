from fractions import Fraction

import msgspec
import pytest

from wan_studio.domain.checks import ClipFacts, Level, Progress, Step, clip_problems, step_states
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.project import Project, ProjectClip, ProjectDataset


def video(frames=100, fps=20, **changes):
    values = {
        "path": "/clips/a.mp4",
        "size_bytes": 1,
        "modified_ns": 1,
        "width": 640,
        "height": 480,
        "frame_pts": tuple(range(frames)),
        "time_base": Fraction(1, fps),
        "codec": "h264",
    }
    return SourceVideo(**{**values, **changes})


def clip(clip_id="a", **changes):
    values = {"id": clip_id, "source": "/clips/a.mp4", "caption_file": "/clips/a.txt"}
    return ProjectClip(**{**values, **changes})


def shorts(project, facts, one=None):
    return [problem.short for problem in clip_problems(project, one or clip(), facts)]


@pytest.fixture
def project():
    return Project(name="p", trigger="frung", clips=(clip(),))


def test_a_good_clip_has_no_problem(project):
    assert shorts(project, ClipFacts(source=video(), caption="an orbit of [trigger]")) == []
    assert shorts(project, ClipFacts(source=video(), caption="an orbit of frung")) == []


def test_a_clip_is_judged_by_the_settings_of_its_own_data_set(project):
    facts = ClipFacts(source=video(frames=40), caption="a man walks")
    assert shorts(project, facts) == ["29 frames", "No trigger"]
    dataset = ProjectDataset(name="people", role="regularization", changes={"num_frames": 9})
    project = project.with_dataset(dataset)
    assert shorts(project, facts, clip(dataset="people")) == []


def test_a_trigger_inside_another_word_is_not_named(project):
    assert shorts(project, ClipFacts(source=video(), caption="a frungible car")) == ["No trigger"]


def test_what_stands_in_the_way_comes_first(project):
    facts = ClipFacts(source=video(frames=5), caption="")
    problems = clip_problems(project, clip(), facts)
    assert [problem.level for problem in problems] == [Level.BLOCKER, Level.WARNING]
    assert problems[0].short == "Too short"


def test_each_problem_is_named(project):
    assert shorts(project, ClipFacts(unreadable="no video")) == ["Unreadable"]
    assert shorts(project, ClipFacts(source=video(), caption="")) == ["No caption"]
    assert shorts(project, ClipFacts(source=video(), caption="an orbit")) == ["No trigger"]
    # 40 frames at 20 fps are 2 s: 32 sixteenths, of which 29 are a 4n+1.
    assert shorts(project, ClipFacts(source=video(frames=40), caption="frung")) == ["29 frames"]
    outside = clip(trim=TrimRange(50, 120))
    assert shorts(project, ClipFacts(source=video(), caption="frung"), outside) == ["Trim outside"]
    assert shorts(project, ClipFacts(source=video(is_hdr=True), caption="frung")) == ["HDR"]


def test_a_whole_range_that_is_learnt_too_fast_is_named(project):
    settings = project.settings.with_values({"datasets": {"sampling": "whole_range"}})
    fast = msgspec.structs.replace(project, settings=settings)
    # 99 frame distances of 1/20 s over 40 steps of 1/16 s.
    assert shorts(fast, ClipFacts(source=video(), caption="frung")) == ["Speed 1.98x"]


def test_a_default_caption_takes_the_warning_away(project):
    settings = project.settings.with_values({"datasets": {"default_caption": "an orbit"}})
    changed = msgspec.structs.replace(project, settings=settings)
    problems = clip_problems(changed, clip(), ClipFacts(source=video(), caption=""))
    assert [problem.level for problem in problems] == [Level.NOTE]


def test_a_rejected_clip_is_not_complained_about(project):
    assert shorts(project, ClipFacts(unreadable="no video"), clip(rejected=True)) == []


def test_the_rail_counts_what_is_usable():
    clips = tuple(clip(name) for name in "abcdef")
    project = Project(name="p", clips=clips)
    facts = {one.id: ClipFacts(source=video(), caption="an orbit") for one in clips}
    states = step_states(project, facts)
    assert states[Step.CLIPS].progress is Progress.DONE
    assert states[Step.CAPTIONS].progress is Progress.DONE
    facts["b"] = ClipFacts(unreadable="no video")
    facts["c"] = ClipFacts(source=video(), caption=" ")
    states = step_states(project, facts)
    assert (states[Step.CLIPS].progress, states[Step.CLIPS].note) == (Progress.ATTENTION, "5/6")
    assert (states[Step.CAPTIONS].progress, states[Step.CAPTIONS].note) == (Progress.ATTENTION, "5/6")
    states = step_states(project, {one.id: ClipFacts(unreadable="x") for one in clips})
    assert states[Step.CLIPS].progress is Progress.BLOCKED


def test_settings_that_do_not_fit_the_machine_want_a_look_at_the_hardware():
    project = Project(name="p")
    assert step_states(project, {})[Step.HARDWARE].progress is Progress.DONE
    assert step_states(project, {}, fits=False)[Step.HARDWARE].progress is Progress.ATTENTION
