"""Monitor page: a run at work."""
