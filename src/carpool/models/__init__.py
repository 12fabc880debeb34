"""What runs: targets, and a model for each kind of them."""
