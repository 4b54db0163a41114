"""The evaluation protocol led by hand on a real robot: placements, blinded order, one-key labels."""
