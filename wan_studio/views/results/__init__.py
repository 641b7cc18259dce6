"""Results page: checkpoints, previews, export."""
