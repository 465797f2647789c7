"""A teacher's outputs for fixed crops, written once and read in every epoch of a distillation."""
