"""The routers of the shop, one in each file."""
