"""Training: tasks, loop, checkpoints; Ray Train behind `on_ray.py`."""
