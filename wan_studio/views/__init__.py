"""Widgets: they show and ask; the domain decides."""
