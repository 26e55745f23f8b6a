"""Submit a task.

`POST /tasks` names a function and gives its input. The answer comes at once and says where the task is, while a worker
runs the function. Every function has an address of its own, too, which takes the input as the body.
"""

import httpx
import pytest

from plugins import keys
from tests.support.client import follow, start, status_of

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_task_is_started_and_followed_to_its_end(client: httpx.AsyncClient) -> None:
    """A client that starts a function sees all it yields, in order, and how it ended."""
    answer = await client.post("/tasks", json={"function": "count", "input": {"to": 3}})
    submitted = answer.json()
    task_id = submitted["task_id"]

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/tasks/{task_id}" == submitted["status_url"]
    assert keys.TASK_ID.fullmatch(task_id)
    assert await follow(client, task_id) == ([1, 2, 3], "done", {"chunks": 3})

    status = (await client.get(submitted["status_url"])).json()
    assert (status["status"], status["chunks"], status["attempt"], status["end"]) == ("done", 3, 1, {"chunks": 3})
    assert status["created_at"] <= status["started_at"] <= status["ended_at"]


async def test_a_function_has_an_address_of_its_own(client: httpx.AsyncClient) -> None:
    """The input is the body. The answer is the same as to POST /tasks, a key stands for the same task in both."""
    headers = {"Idempotency-Key": "as-it-says"}
    answer = await client.post("/functions/count/tasks", json={"to": 3}, headers=headers)
    assert answer.status_code == 202, answer.text
    task = answer.json()
    assert answer.headers["location"] == task["status_url"]
    assert await follow(client, task["task_id"]) == ([1, 2, 3], "done", {"chunks": 3})
    again = await client.post("/tasks", json={"function": "count", "input": {"to": 3}}, headers=headers)
    assert again.json()["task_id"] == task["task_id"]


async def test_a_client_finds_its_tasks_again(client: httpx.AsyncClient) -> None:
    """`GET /tasks` lists them, the newest first, each as `GET /tasks/{id}` has it."""
    tasks = []
    for number in (1, 2):
        tasks.append(await start(client, "count", to=number))
        await follow(client, tasks[-1])

    listed = (await client.get("/tasks?limit=2")).json()["tasks"]
    assert listed == [await status_of(client, task_id) for task_id in reversed(tasks)]
