"""A transformer block of an expert computed by hand: every pass once, and its gradient beside it."""
