"""Trim page: which frames of a clip train."""
