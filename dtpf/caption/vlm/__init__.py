"""Captions by a vision-language model: question, answer, engine."""
