"""HTTP/1.1 on a bare asyncio protocol: connections, limits, routes, and one exchange a request."""
