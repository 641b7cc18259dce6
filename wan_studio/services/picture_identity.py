"""By what pictures of a source are found again in a cache."""

from trainer.protocol.tone_map import TONE_MAP_FORMAT
from wan_studio.domain.clip import SourceVideo


def picture_identity(source: SourceVideo) -> str:
    """Everything that the pictures of a source depend on, as one string; HDR ones on the tone mapping, too."""
    identity = f"{source.path}\0{source.size_bytes}\0{source.modified_ns}"
    return f"{identity}\0tone map {TONE_MAP_FORMAT}" if source.is_hdr else identity
