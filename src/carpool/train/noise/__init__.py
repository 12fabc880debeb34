"""How large a batch is worth having: what the noise of the gradients says, and what a measurement says."""
