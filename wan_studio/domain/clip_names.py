"""What a clip is called: the user's name or the file's, and which part of the file it is where several clips share one."""

from collections import Counter

from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import Project, ProjectClip

RANGE_MARK = " · "
"""Between a clip's name and its range."""


def shared_sources(project: Project) -> frozenset[str]:
    """The files that more than one clip uses: their names alone do not tell the clips apart."""
    uses = Counter(clip.source for clip in project.clips)
    return frozenset(source for source, count in uses.items() if count > 1)


def range_words(clip: ProjectClip, source: SourceVideo | None) -> str:
    """Which part of its file a clip is, e.g. "1.2–3.8 s"; in frames while the file is not known."""
    if clip.trim is None:
        return "whole"
    start, end = clip.trim.start_frame, clip.trim.end_frame
    if source is None or end > source.frame_count:
        return f"frames {start}–{end}"
    return f"{source.seconds_at(start):.1f}–{source.seconds_at(end):.1f} s"


def clip_label(clip: ProjectClip, source: SourceVideo | None, *, is_shared: bool) -> str:
    """The clip's name, with its range where its file is used by others, e.g. "castle.mp4 · 1.2–3.8 s".

    Args:
        clip: What is named.
        source: Its file, once it was looked at.
        is_shared: Whether other clips use the same file.
    """
    return f"{clip.name}{RANGE_MARK}{range_words(clip, source)}" if is_shared else clip.name
