"""Training page: the settings of a run."""
