"""Wan Studio, the app: curate clips, tune, train and use LoRAs for Wan 2.2 I2V A14B.

It never imports torch; training happens in a process of its own that outlives the window, and the
two talk through a run folder (`trainer.protocol`). Layers, high to low: `app` (window) and `cli`,
views, models and undo, bridge (Qt without widgets), services (I/O without Qt), domain (pure
rules), then settings, paths and errors.
"""

__version__ = "0.1.0"
