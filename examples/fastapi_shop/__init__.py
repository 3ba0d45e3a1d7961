"""A small shop whose API has rate limits: README.md explains it."""
