"""A regular package, so that `from tests...` means this folder: spylls installs one of the same name."""
