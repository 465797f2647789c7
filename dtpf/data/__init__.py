"""Data: image files, pair index and splits, synthetic scenes, degradations, training batches."""
