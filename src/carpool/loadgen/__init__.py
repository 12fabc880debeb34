"""The other side of a server: load that does not wait for the answers, and an honest account of what came back."""
