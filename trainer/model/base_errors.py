"""What can be wrong with a base model: each error names the file or folder and says what to do."""

from collections.abc import Sequence
from pathlib import Path

from trainer.errors import TrainerError

LAYOUT_HINT = (
    "Choose Wan 2.2 I2V A14B: its folder in the diffusers layout (with model_index.json), the original release "
    "(with high_noise_model and low_noise_model), or its files as ComfyUI has them."
)
INCOMPLETE_HINT = "The download is probably incomplete: download it again."
NAME_BOTH_HINT = "Set model.high_noise and model.low_noise to the two files."


class BaseModelError(TrainerError):
    """The base model cannot be used; the message names the folder or file."""

    kind = "base_model"


class NoBaseError(BaseModelError):
    """Parts are wanted, and no base is named that would bring them."""

    def __init__(self) -> None:
        super().__init__("No base model is named.", LAYOUT_HINT)


class BaseFolderError(BaseModelError):
    """The base is no folder or file that can be used at all."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"The base model's folder {folder} {problem}.", LAYOUT_HINT)


class WrongModelError(BaseModelError):
    """The folder or file holds something else than Wan 2.2 I2V A14B."""

    def __init__(self, place: Path, found: str) -> None:
        super().__init__(f"{place} is not Wan 2.2 I2V: {found}.", LAYOUT_HINT)


class WrongPartError(BaseModelError):
    """The file is another part of a model than the one it was named as, or of another model."""

    def __init__(self, place: Path, wanted: str, found: str) -> None:
        super().__init__(f"{place} is not {wanted}: {found}.", "Name another file, or clear the setting.")


class MissingPartError(BaseModelError):
    """A part of the model is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"The base model lacks {path}.", INCOMPLETE_HINT)


class PartNotFoundError(BaseModelError):
    """No file for a part was found among those beside the base."""

    def __init__(self, base: Path, part: str, hint: str) -> None:
        super().__init__(f"No {part} was found for the base model {base}.", hint)


class AmbiguousPartError(BaseModelError):
    """Several files could be the part, and nothing tells which one is meant."""

    def __init__(self, base: Path, part: str, files: Sequence[Path], hint: str) -> None:
        names = ", ".join(file.name for file in files[:6]) + (" and more" if len(files) > 6 else "")
        super().__init__(f"{base} has several files that could be the {part}: {names}.", hint)


class UnknownExpertError(BaseModelError):
    """A file is one of the two experts, and neither its name nor its folder tells which."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"{file} does not tell by its name whether it is the high-noise or the low-noise expert.",
            NAME_BOTH_HINT,
        )


class SameExpertError(BaseModelError):
    """Both experts were given the same weights."""

    def __init__(self, place: Path) -> None:
        super().__init__(f"{place} is named as the high-noise and as the low-noise expert.", NAME_BOTH_HINT)


class DamagedFileError(BaseModelError):
    """A file of the model cannot be read or is not whole."""

    def __init__(self, path: Path, problem: str, hint: str = INCOMPLETE_HINT) -> None:
        super().__init__(f"{path} {problem}.", hint)


class UnsafeFileError(BaseModelError):
    """A pickled file wants more than tensors to be made; nothing of it was executed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds more than tensors, perhaps program code, so it was not opened.",
            "Use the file of the official release, or one in the safetensors format.",
        )


class PartNotLoadedError(BaseModelError):
    """A part's files are there, but the model cannot be made from them."""

    def __init__(self, place: Path, problem: str) -> None:
        super().__init__(
            f"{place} cannot be loaded: {problem}.",
            "Its files may be of another model or another version: download them again.",
        )


class NoTokenizerError(BaseModelError):
    """The text encoder came without its tokenizer."""

    def __init__(self, encoder: Path) -> None:
        super().__init__(
            f"No tokenizer was found for the text encoder {encoder}.",
            "Download spiece.model or tokenizer.json of google/umt5-xxl into a folder named tokenizer beside that "
            "file, or use ComfyUI's umt5_xxl file, which contains it.",
        )


class MiniatureMixedError(BaseModelError):
    """Files were named for some parts, and the base that would bring the others is the miniature."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"The miniature's {part} does not fit the files that are named for other parts.",
            "Choose the base model that those files belong to, or name files for both experts, VAE and text encoder.",
        )


class HubError(BaseModelError):
    """A repository of the Hugging Face Hub could not be had."""

    def __init__(self, repository: str, problem: str) -> None:
        super().__init__(
            f"The model {repository} could not be downloaded from the Hugging Face Hub: {problem}.",
            "Check its name and the connection, or download it and choose its folder.",
        )
