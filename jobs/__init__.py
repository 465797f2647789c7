"""Programs for `ray job submit`."""
