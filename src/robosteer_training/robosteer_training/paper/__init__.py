"""The tables and figures of the Robotic Steering paper (arXiv 2511.22697), done again on what is at hand."""
