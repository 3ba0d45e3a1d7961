"""Settings from the environment: RATE_LIMIT_BACKEND, REDIS_URL, and N and T under names of your own."""
