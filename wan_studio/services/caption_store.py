"""Captions: the `.txt` beside a clip. Text files come in many encodings; only safe ones are read."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from trainer.protocol.wire import write_atomic
from wan_studio.errors import AppError

_ENCODING_NAMES = {
    "utf-16-le": "UTF-16",
    "cp932": "Shift JIS (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "cp1252": "Windows Latin (cp1252)",
}


class CaptionEncodingError(AppError):
    """A caption's bytes are no UTF-8.

    Attributes:
        path: The file.
        guess: Python's name of the encoding that it probably has; empty when there is none.
    """

    def __init__(self, path: Path, guess: str) -> None:
        looks_like = f" It looks like {_ENCODING_NAMES.get(guess, guess)}." if guess else ""
        super().__init__(
            f"The caption {path} is not UTF-8 text.{looks_like}",
            "Open it in a text editor and save it with the encoding UTF-8.",
        )
        self.path = path
        self.guess = guess


class CaptionFileError(AppError):
    """A caption cannot be read or written."""

    def __init__(self, path: Path, action: str, error: OSError) -> None:
        super().__init__(
            f"The caption {path} cannot be {action} ({error.strerror or error}).",
            "Check the folder's permissions and the free space.",
        )


@dataclass(frozen=True, slots=True)
class Caption:
    r"""A caption as it stands.

    Attributes:
        text: With line ends as `\n`, whatever the file has.
        encoding: How the file is encoded: "utf-8", "utf-8-sig" or "utf-16"; "utf-8" without a file.
        exists: Whether there is a file.
    """

    text: str
    encoding: str
    exists: bool


def read_caption(path: Path) -> Caption:
    """Read a caption; no file is an empty caption.

    Raises:
        CaptionEncodingError: neither UTF-8 nor UTF-16 with its mark.
        CaptionFileError: it cannot be read.
    """
    content = _read_bytes(path)
    if content is None:
        return Caption("", "utf-8", exists=False)
    text, encoding = _decode(path, content)
    return Caption(_with_plain_line_ends(text), encoding, exists=True)


def write_caption(path: Path, text: str) -> None:
    """Write a caption as UTF-8, atomically; a file that already says this is left as it is, byte for byte.

    A changed file keeps its kind of line ends. A file in an unknown encoding is not overwritten.

    Raises:
        CaptionEncodingError: there is a file whose text cannot be read.
        CaptionFileError: it cannot be written.
    """
    content = _read_bytes(path)
    plain = _with_plain_line_ends(text)
    if content is None and not plain:
        return
    line_end = "\n"
    if content is not None:
        old, _ = _decode(path, content)
        if _with_plain_line_ends(old) == plain:
            return
        line_end = "\r\n" if "\r\n" in old else "\n"
    try:
        # A link's target is what the user means, not the link.
        write_atomic(path.resolve(), plain.replace("\n", line_end).encode())
    except OSError as error:
        raise CaptionFileError(path, "written", error) from error


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaptionFileError(path, "read", error) from error


def _decode(path: Path, content: bytes) -> tuple[str, str]:
    encoding = "utf-8"
    if content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise CaptionEncodingError(path, _guess_encoding(content)) from error
    if "\0" in text:
        raise CaptionEncodingError(path, _guess_encoding(content))
    return text, encoding


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_accented(content: bytes) -> bool:
    """Whether the bytes are mostly plain letters, with single accented ones among them: Latin text."""
    high = sum(byte >= 0x80 for byte in content)
    letters = sum(chr(byte).isalpha() for byte in content if byte < 0x80)
    return letters > 2 * high


def _guess_encoding(content: bytes) -> str:
    """The encoding that explains the bytes best; only for the message, never to read with."""
    if content.count(b"\0") > len(content) // 4:
        return "utf-16-le"
    for encoding, first, last in (("cp932", "\u3040", "\u30ff"), ("gb18030", "\u4e00", "\u9fff")):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Kana tell Japanese from the accents of Latin text, which decode as rare signs.
        wanted = sum(first <= letter <= last for letter in text)
        foreign = sum(ord(letter) > 127 for letter in text)
        if wanted * 3 >= foreign > 1 and not _is_accented(content):
            return encoding
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    return "cp1252"
