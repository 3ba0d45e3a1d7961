"""How requests travel to the server and back."""
