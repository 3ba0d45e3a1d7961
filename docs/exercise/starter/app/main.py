"""The service. Start it with `uvicorn app.main:app --reload`."""

from fastapi import FastAPI

app = FastAPI()

# Yours to write: GET /ping?user_id=alice, answered with 200, or with 429 and a Retry-After header.
