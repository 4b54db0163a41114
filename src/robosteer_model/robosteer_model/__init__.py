"""What the policy is: pi0, pi0.5 and pi0-FAST in JAX with taps and edits, checkpoints, transforms, policy server."""
