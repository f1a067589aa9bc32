"""Sources, the pipeline that embeds and stores them, and the `ingest` command."""
