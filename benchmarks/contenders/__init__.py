"""What is measured: Headgate, its peers, and floors, each as one call with a key."""
