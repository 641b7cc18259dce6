"""QUndoCommands over edits of the project."""
