"""Goal page: what the LoRA learns, its name and trigger word."""
