"""The experts' frozen weights: how they are stored, computed with, kept in RAM and sent to the GPU."""
