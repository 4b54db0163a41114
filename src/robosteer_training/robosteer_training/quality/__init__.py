"""Is a dataset fit to be trained on? Numbers, warnings and a page."""
