"""The contract between the app and the trainer: job, events, commands and the run folder.

Standard library and msgspec only.
"""
