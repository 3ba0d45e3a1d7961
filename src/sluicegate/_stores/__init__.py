"""Where counters live: the protocol (``base.py``), from a URL to a store (``resolve.py``), and the stores."""
