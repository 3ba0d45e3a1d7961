"""Counters on a Redis or Valkey server."""
