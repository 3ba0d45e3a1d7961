"""How requests reach the server and replies come back: a queue, batches in flight, and one pipeline for each form."""
