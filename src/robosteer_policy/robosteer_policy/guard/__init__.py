"""The guard's pure core: limits, arbitration and latching. Needs numpy only; time is always passed in."""
