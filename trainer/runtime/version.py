"""The version that events and files carry; the same as the distribution's in pyproject.toml."""

TRAINER_VERSION = "0.1.0"
