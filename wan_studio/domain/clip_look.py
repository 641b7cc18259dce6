"""What a look at a clip's pictures told: what it resembles, where it stands still, its black bars."""

from dataclasses import dataclass

from trainer.protocol.job import CropBox

SIGNATURE_BYTES = 32
"""Bytes of one picture's part in a signature."""


STRIP_FRAMES = 12
"""So many small pictures of a clip lie side by side in its strip."""


@dataclass(frozen=True, slots=True)
class ClipLook:
    """Measured on a few small pictures of a clip.

    Attributes:
        signature: 256 bits for each of a few pictures, spread evenly; alike where pictures are alike.
            Empty where they are so flat that everything flat would resemble them.
        still_head_seconds: From the start until something moves.
        still_tail_seconds: From the last movement to the end.
        picture: The part inside black bars; None where there are none.
        content_hash: Of the file's bytes; files of the same bytes have the same.
    """

    signature: bytes = b""
    still_head_seconds: float = 0.0
    still_tail_seconds: float = 0.0
    picture: CropBox | None = None
    content_hash: str = ""

    def has_still_ends(self, seconds: float) -> bool:
        """Whether its start or end stands still for at least this long."""
        return max(self.still_head_seconds, self.still_tail_seconds) >= seconds
