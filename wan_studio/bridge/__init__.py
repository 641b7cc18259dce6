"""Qt without widgets: watches runs and carries background work to the GUI thread."""
