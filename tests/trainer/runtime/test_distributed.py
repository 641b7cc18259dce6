"""Two real processes that train together: sums, decisions and errors reach both."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from trainer.runtime.distributed import Team, TeamSizeError

ROOT = Path(__file__).parents[3]

SCRIPT = """
import torch
from torch.nn import Parameter
from trainer.protocol.job import Expert
from trainer.runtime.distributed import (
    FirstHasEndedError, TeamOutOfStepError, join_team, leave_team
)
from trainer.runtime.out_of_memory import Doing, MemoryFigures, MemoryRanOutError, MemoryWork

torch.set_num_threads(1)
team = join_team()
assert team.size == 2

weights = [Parameter(torch.zeros(3)), Parameter(torch.zeros(2, 2)), Parameter(torch.zeros(1))]
weights[0].grad = torch.full((3,), 1.0 + team.rank)
weights[1].grad = torch.full((2, 2), 0.5)
team.sum_gradients(weights)
assert weights[0].grad.tolist() == [3.0] * 3
assert weights[1].grad.tolist() == [[1.0, 1.0]] * 2
assert weights[2].grad is None

assert team.share(f"from {team.rank}") == "from 0"
assert team.gather(team.rank) == [0, 1]

team.check_equal(weights, 50)
with torch.no_grad():
    weights[1][0, 0] += team.rank * 1e-30
try:
    team.check_equal(weights, 100)
    raise SystemExit("a difference in one bit went unseen")
except TeamOutOfStepError as error:
    assert "step 100" in str(error)

failure = None
if team.rank == 1:
    work = MemoryWork(Doing.BACKWARD, 7, Expert.LOW)
    failure = MemoryRanOutError(work, MemoryFigures(needed=2**30), "a card")
try:
    team.raise_together(failure)
    raise SystemExit("the other's failure went unheard")
except MemoryRanOutError as error:
    assert "step 7" in str(error) and "a card" in str(error)

done = []
team.after_first(lambda: done.append(1))
assert done == [1]

def fail():
    raise ValueError("broken")

try:
    team.after_first(fail)
    raise SystemExit("nobody failed")
except ValueError:
    assert team.is_first
except FirstHasEndedError:
    assert not team.is_first
leave_team()
print("fine")
"""


def test_two_processes_sum_share_compare_and_fail_together():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert all("fine" in output for output in outputs)


def test_a_process_alone_is_a_team_that_waits_for_nobody():
    team = Team()
    weight = Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    team.sum_gradients([weight])
    assert weight.grad.tolist() == [1.0, 1.0]
    assert (team.share("a"), team.gather("a")) == ("a", ["a"])
    team.check_equal([weight], 1)
    team.raise_together(None)


def test_each_process_has_a_gpu_of_its_own():
    assert [Team(rank, 3, rank).gpu(2, (5, 0)) for rank in range(3)] == [2, 5, 0]
    assert [Team(rank, 2, rank).gpu(0, ()) for rank in range(2)] == [0, 1]


def test_a_runs_micro_batches_stay_the_same_with_another_number_of_gpus():
    assert Team(0, 2).batches_of_step(3, None) == 6
    assert Team(0, 3).batches_of_step(3, 6) == 6
    with pytest.raises(TeamSizeError, match="6 batches, which 4 GPUs") as caught:
        Team(0, 4).batches_of_step(3, 6)
    assert "1 or 2 or 3 or 6" in caught.value.hint
