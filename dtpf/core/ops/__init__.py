"""Pure tensor and array functions that losses, metrics and networks share."""
