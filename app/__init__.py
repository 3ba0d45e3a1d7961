"""The service: `/ping`, limited for each user. The limiting is in `sluicegate`."""
