"""Is a machine, or a cluster, fit for a run: checks that find it out before hours are lost."""
