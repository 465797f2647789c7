"""Captioning: what is wrong with a pair, as typed degradations, a sentence and its embedding."""
