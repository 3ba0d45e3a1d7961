"""What is measured: Sluicegate, its peers, and floors, each as one call with a key."""
