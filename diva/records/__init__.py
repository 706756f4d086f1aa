"""What happened: files, sources, environments and their digests. Never imports torch."""
