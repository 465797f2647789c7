"""The winning student behind HTTP: predictor, app, web page; the same app with and without Ray."""
