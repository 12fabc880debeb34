"""What becomes of the hyper-parameters when the effective batch becomes larger or smaller: rules with their sources."""
