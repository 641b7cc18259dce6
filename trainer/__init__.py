"""The trainer: a program of its own that makes a LoRA pair for Wan 2.2 I2V A14B from one job file.

It never imports Qt or the app, and runs alone: ``python -m trainer run JOB.json --run-dir DIR``.
Layers, high to low: recipes (programs that read top to bottom), then data, model, objective and
output (which never import each other: they get objects as arguments), then runtime, errors and
protocol. ``trainer.protocol`` is the only part that the app may import, so this file stays a
docstring: Python runs it on every ``import trainer.protocol``.
"""
