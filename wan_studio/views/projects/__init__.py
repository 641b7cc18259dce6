"""Projects page: start, open, go on."""
