"""Samples and review page: previews, checks, start."""
