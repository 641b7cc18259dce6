"""I/O without Qt: files, media, processes, hardware."""
