"""The tests of the shop, over HTTP, as its customers use it."""
