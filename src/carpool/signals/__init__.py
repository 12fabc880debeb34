"""What happened: events, the one definition of each figure, and the ways out (Prometheus, JSON lines)."""
