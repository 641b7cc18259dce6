"""The frozen base (both experts, VAE, text encoder) and the LoRA on it."""
