"""Keeps the libraries' chatter out of the trainer's log, so that what stands there matters."""

import logging

LOUD_ON_IMPORT = (
    # Tells on every CPU start that an optional kernel package is missing; nothing here uses it.
    "bitsandbytes.backends.cpu.ops",
    # Tells that torchvision is missing, which this model does not need.
    "transformers.utils.import_utils",
    "transformers.models.clip",
)


def quiet_libraries() -> None:
    """Turn off progress bars and the notices that concern nobody; errors and other warnings stay.

    To be called before diffusers, peft or transformers are imported. Calling it again does nothing new.
    """
    for name in LOUD_ON_IMPORT:
        logging.getLogger(name).setLevel(logging.ERROR)

    # Imported late: the levels above must be set first.
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
