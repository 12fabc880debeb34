"""What runs: targets and the models behind them."""
