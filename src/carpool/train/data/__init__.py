"""Which items form which micro-batch: windows of exactly the effective batch, and lengths that waste little padding."""
