"""A human in the loop: an agent that finds an offer, and asks its owner before it takes it.

    python examples/human_in_the_loop.py
    python examples/human_in_the_loop.py --owner exec:/home/me/ask.py
    python examples/human_in_the_loop.py --relays wss://relay.example.org

Without `--owner` it prints the command with which you answer, in another terminal. With it, the program is run: it gets
the question as JSON on its standard input, and prints `{"answer": "yes"}`. Without `--relays` everything happens on
this machine, over a relay of its own.
"""

import argparse
import asyncio
import contextlib
import re
import tempfile
from pathlib import Path

from p2p_comm import Agent, Conversation, Decision, Ended, Heard, Message, serve
from p2p_comm.testing import LocalNetwork

DECIDE_WITHIN_S = 600


async def sell(heard: Heard, conversation: Conversation) -> str:
    """The seller: names its price, and takes orders."""
    return "Ordered, thank you." if heard.text == "I take it." else "A licence for a year is 40 EUR."


async def buy(buyer: Agent, seller: str) -> None:
    """The buyer: spends nothing without its owner's yes."""
    async with await buyer.call(seller, topic="a licence", wait=60) as call:
        await call.send("What does a licence cost?")
        async for event in call:
            match event:
                case Message(text=text) if price := re.search(r"\b(\d{1,4}) EUR\b", text):
                    # The question is in our words. Of the peer's there is a number in it, and no sentence.
                    question = f"Spend {price[1]} EUR on a licence?"
                    asked = await call.escalate(question, options=["yes", "no"], expires=DECIDE_WITHIN_S)
                    if asked.state == "no-owner":
                        print(f"{question} Answer: p2p-comm --home {buyer.home} owner reply {asked.ticket} yes")
                case Decision(answered=True, answer="yes"):
                    print("the owner agrees")
                    await call.send("I take it.")
                case Decision() as decision:
                    # No, or no answer in time. Silence is never a yes.
                    print("the owner does not agree:", decision.answer or decision.state)
                    break
                case Message(text=text):
                    print("the seller says:", text)
                    break
                case Ended(reason=reason):
                    raise SystemExit(f"the seller hung up: {reason}")


async def main(owner: str, relays: list[str]) -> None:
    """Both of them."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-", ignore_cleanup_errors=True)))
        relays = relays or [(await stack.enter_async_context(LocalNetwork())).relay]
        seller = await stack.enter_async_context(Agent("seller", home=folder / "seller", relays=relays))
        buyer = await stack.enter_async_context(Agent("buyer", home=folder / "buyer", relays=relays, owner=owner))
        selling = asyncio.create_task(serve(sell, on=seller, accept="anyone"))
        try:
            await buy(buyer, seller.npub)
        finally:
            selling.cancel()
            await asyncio.gather(selling, return_exceptions=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--owner", default="")
    arguments.add_argument("--relays", type=lambda text: text.split(","), default=[])
    given = arguments.parse_args()
    asyncio.run(main(given.owner, given.relays))
