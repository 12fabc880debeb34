"""Policies over the network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.serve.fakes import Doubler, serving

if TYPE_CHECKING:
    from tests.serve.fakes import Answer, Client

POLICY = "/v2/models/m/policy"


async def change(client: Client, document: Any, path: str = POLICY) -> Answer:
    """Ask for a change."""
    return await client.send("PATCH", path, [json.dumps(document).encode()])


async def test_the_policy_in_force_is_shown_and_changed() -> None:
    """As the keys of a carpool.toml; the next requests go by it, and the history tells who changed what."""
    async with serving(Doubler(), max_batch_size=4) as client:
        shown = (await client.get(POLICY)).json
        assert (shown["model"], shown["in_force"]["number"], shown["on_trial"]) == ("m", 1, None)
        assert (shown["in_force"]["policy"]["max_batch_size"], shown["in_force"]["policy"]["max_wait"]) == (4, "0s")
        after = (await change(client, {"policy": {"max_batch_size": 1, "max_queue": 2}})).json
        assert (after["in_force"]["number"], after["in_force"]["changes"]["max_batch_size"]) == (2, 1)
        assert after["in_force"]["who"] == "127.0.0.1"
        back = (await change(client, {"version": 1}, "/v2/models/m/versions/1/policy")).json
        assert back["in_force"]["policy"] == shown["in_force"]["policy"]
        assert [version["standing"] for version in back["history"]] == ["replaced", "replaced", "in force"]


async def test_a_trial_is_shown_while_it_goes_on() -> None:
    """And counted in the metrics."""
    async with serving(Doubler(), max_batch_size=4) as client:
        shown = (await change(client, {"policy": {"max_batch_size": 2}, "share": 0.25, "watch": "60s"})).json
        assert (shown["on_trial"]["number"], shown["on_trial"]["share"], shown["in_force"]["number"]) == (2, 0.25, 1)
        page = (await client.get("/metrics")).body.decode()
        assert 'carpool_policy_on_trial{model="m",version="1"} 1.0' in page
        await change(client, {"policy": {"max_queue": 100}})
        page = (await client.get("/metrics")).body.decode()
        assert 'carpool_policy_version{model="m",version="1"} 3.0' in page
        assert 'carpool_policy_changes_total{model="m",result="rolled back",version="1"} 1.0' in page


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "either `policy`, with the keys to change, or `version`"),
        ({"policy": {"max_queue": 1}, "version": 1}, "either `policy`"),
        ({"policy": {"max_batchsize": 1}}, "unknown key 'max_batchsize': did you mean 'max_batch_size'?"),
        ({"policy": {"max_batch_size": "many"}}, "max_batch_size is 'many'; it must be a whole number"),
        ({"policy": {"max_queue": 1}, "share": 0.9}, "share is 0.9; it must be from 0.01 to 0.5"),
        ({"policy": {"max_queue": 1}, "share": 0.1, "watch": "soon"}, "'soon' is not a duration"),
        ({"policy": {"max_queue": 10**30}}, f"max_queue is {10**30}; it must be a whole number"),
        (
            {"policy": {"look_ahead": 1 << 40}},
            "look_ahead is 1099511627776; it must be a whole number from 1 to 1048576",
        ),
        ({"policy": {"max_queue": 1}, "chare": 0.1}, "chare"),
        ({"version": 9}, "version 9 is not remembered: there are 1 to 1"),
        ([], "array"),
    ],
)
async def test_a_change_that_can_not_be_is_refused(document: Any, said: str) -> None:
    """With what is wrong with it; nothing has changed."""
    async with serving(Doubler(), max_batch_size=4) as client:
        answer = await change(client, document)
        assert answer.status == 400
        assert said in answer.json["error"]
        assert (await client.get(POLICY)).json["in_force"]["number"] == 1
        assert (await client.get("/v2/models/x/policy")).status == 404
