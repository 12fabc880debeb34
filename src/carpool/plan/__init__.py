"""What would happen: a policy chosen from the measurement, by simulating the very policy that serves."""
