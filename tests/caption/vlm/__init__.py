"""Captions by a vision-language model, all but the engine itself."""
