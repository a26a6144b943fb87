"""Many runs and what they say together: sweeps, published figures beside ours, lmms-eval."""
