"""The chat with support."""

from fastapi import APIRouter, WebSocket

from ..customers import CustomerId
from ..limits import limits

router = APIRouter(prefix="/support", tags=["support"])


@router.websocket("/chat")
@limits.limit("20/minute")
async def chat(websocket: WebSocket, customer_id: CustomerId) -> None:
    """Answer each message of a customer, whichever of their connections it comes through."""
    await websocket.accept()
    async for text in limits.messages(websocket, "30/minute", key=customer_id):
        await websocket.send_text(f"Thank you, {customer_id}. You said: {text}")
