"""Questions to a collection: search, reports, and the `query` command."""
