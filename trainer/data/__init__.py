"""Clips become cached tensors, and cached tensors become batches."""
