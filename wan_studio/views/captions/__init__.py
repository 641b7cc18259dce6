"""Captions page: the text beside each clip."""
