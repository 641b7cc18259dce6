"""What a run stands on: device, seeds, optimizer, reporting, commands."""
