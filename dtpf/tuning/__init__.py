"""Search for the student to ship; Ray Tune behind `on_ray.py`."""
