"""Clips page: what trains, with pictures and problems."""
