"""Programs that read top to bottom: train, export, previews, caching."""
