"""The service: `/ping`, limited for each user. The limiter itself is in `sluicegate`."""
