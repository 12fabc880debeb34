"""What a training run would take at each effective batch: measured, tabulated, drawn."""
