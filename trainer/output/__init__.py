"""What is left behind: checkpoints, exports, previews."""
