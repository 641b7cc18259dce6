"""The video player that pages share."""
