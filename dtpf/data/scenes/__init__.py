"""Road scenes made by code: a perspective canvas, its backdrop, the actors, and the renderer."""
