"""robosteer-nano: a pi0.5-shaped base policy small enough to train and run on two CPU cores."""
