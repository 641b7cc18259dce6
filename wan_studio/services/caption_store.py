"""Captions: the `.txt` beside a clip. Text files come in many encodings; only safe ones are read."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.protocol.wire import write_atomic
from wan_studio.errors import AppError

_LINE_END = re.compile(r"\r\n|\r|\n")
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
            "Look at it on the Captions page and convert it there, or save it as UTF-8 in a text editor.",
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
    return Caption(with_plain_line_ends(text), encoding, exists=True)


def write_caption(path: Path, text: str) -> None:
    """Write a caption, atomically; a file that already says this is left as it is, byte for byte.

    A changed file keeps its encoding and its line ends; a new one is UTF-8. A file in an unknown
    encoding is not overwritten.

    Raises:
        CaptionEncodingError: there is a file whose text cannot be read.
        CaptionFileError: it cannot be written.
    """
    content = content_of(path)
    plain = with_plain_line_ends(text)
    if content is None and not plain:
        return
    replacing = plain.encode() if content is None else with_text(path, content, plain)
    if replacing != content:
        replace_caption(path, replacing)


def replace_caption(path: Path, content: bytes) -> None:
    """Put these bytes in the caption's place, atomically, and wait until the disk has them.

    Args:
        path: The file; a link's target is what the user means, not the link.
        content: All of it.

    Raises:
        CaptionFileError: it cannot be written.
    """
    try:
        write_atomic(path.resolve() if path.is_symlink() else path, content)
    except OSError as error:
        raise CaptionFileError(path, "written", error) from error


def with_text(path: Path, content: bytes, text: str) -> bytes:
    r"""The bytes of a caption after its text was edited: encoding, mark and line ends stay.

    Lines that are the same at the beginning and at the end keep the line ends that they have; others
    get the file's first kind.

    Args:
        path: The file, for the error.
        content: As it stands.
        text: With line ends as `\n`.

    Raises:
        CaptionEncodingError: the bytes cannot be read.
    """
    old, encoding = _decode(path, content)
    if with_plain_line_ends(old) == text:
        return content
    kinds = _LINE_END.findall(old)
    lines, old_lines = text.split("\n"), _LINE_END.split(old)
    ends = [kinds[0] if kinds else "\n"] * (len(lines) - 1)
    for at in range(min(len(ends), len(kinds))):
        if lines[at] != old_lines[at]:
            break
        ends[at] = kinds[at]
    for back in range(1, min(len(ends), len(kinds)) + 1):
        if lines[-back] != old_lines[-back]:
            break
        ends[-back] = kinds[-back]
    joined = "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True))
    if encoding == "utf-16" and content.startswith(codecs.BOM_UTF16_BE):
        return codecs.BOM_UTF16_BE + joined.encode("utf-16-be")
    return (
        codecs.BOM_UTF16_LE + joined.encode("utf-16-le") if encoding == "utf-16" else joined.encode(encoding)
    )


def text_of(path: Path, content: bytes) -> str:
    r"""The text of a caption's bytes, line ends as `\n`.

    Raises:
        CaptionEncodingError: neither UTF-8 nor UTF-16 with its mark.
    """
    return with_plain_line_ends(_decode(path, content)[0])


def text_as_guessed(content: bytes) -> str:
    """The text of any bytes, in the encoding that explains them best: for looking at."""
    for encoding in ("utf-8-sig", _guess_encoding(content)):
        if encoding:
            try:
                return with_plain_line_ends(content.decode(encoding))
            except UnicodeDecodeError:
                continue
    return with_plain_line_ends(content.decode("latin-1"))


def content_of(path: Path) -> bytes | None:
    """A caption's bytes; None without a file.

    Raises:
        CaptionFileError: it cannot be read.
    """
    return _read_bytes(path)


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


def with_plain_line_ends(text: str) -> str:
    r"""The text with every line end as `\n`."""
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
