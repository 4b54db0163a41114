"""The report of a steering run: one self-contained HTML file and one JSON summary."""
