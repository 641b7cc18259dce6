"""The frozen base (both experts, VAE, text encoder) and the LoRA on it."""

from trainer.runtime.quiet import quiet_libraries

# Here, because diffusers and bitsandbytes speak while they are imported, whichever module below comes first.
quiet_libraries()
