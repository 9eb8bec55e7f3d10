"""Which worker a process is: what the user says, then what the finest of the launchers says."""

from __future__ import annotations

from typing import Any

import pytest

from vlmsift.errors import UsageError
from vlmsift.scoring.shards import Shard, find_shard
from vlmsift.specs import EngineSpec

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8"}
SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10"}
SKYPILOT = {"SKYPILOT_NODE_RANK": "2", "SKYPILOT_NUM_NODES": "3"}
ALONE = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}


@pytest.mark.parametrize(
    ("environ", "shard", "told"),
    [
        ({}, "0/1", ""),
        (ALONE, "0/1", ""),
        (TORCHRUN | SLURM | SKYPILOT, "5/8", "RANK and WORLD_SIZE"),
        (SLURM | SKYPILOT, "1/2", "SLURM_PROCID and SLURM_NTASKS"),
        (ARRAY | ALONE, "3/4", "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT"),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "3", "SLURM_ARRAY_TASK_ID": "16"}, "2/4", "SLURM_ARRAY_TASK_ID and "),
        (ARRAY | SLURM, "7/8", "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT and SLURM_PROCID and SLURM_NTASKS"),
        (SKYPILOT, "2/3", "SKYPILOT_NODE_RANK and SKYPILOT_NUM_NODES"),
        ({"RANK": "9", "WORLD_SIZE": "8"} | SKYPILOT, "2/3", "SKYPILOT"),
        ({"RANK": "zero", "WORLD_SIZE": "8"}, "0/1", ""),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "0/1", ""),
    ],
)
def test_a_launcher_says_which_worker_this_is(environ: dict[str, str], shard: str, told: str) -> None:
    found = find_shard(EngineSpec(), environ)
    assert str(found) == shard
    assert found.told.startswith(told)
    assert bool(found.told) == bool(told)


def test_the_user_says_it_first() -> None:
    assert find_shard(EngineSpec(shard="1/3"), TORCHRUN | SLURM) == Shard(1, 3)
    assert find_shard(EngineSpec(shard="0/1"), TORCHRUN) == Shard()
    assert find_shard(EngineSpec(engine="ray"), TORCHRUN) == Shard(), "its driver shares the work itself"


def test_a_worker_of_several_processes() -> None:
    workers = [str(Shard(node, 2).split(device, 4)) for node in range(2) for device in range(4)]
    assert workers == [f"{place}/8" for place in range(8)]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"shard": "2/2"}, "shard='2/2' cannot be meant; give i/n"),
        ({"shard": "one"}, "shard='one' cannot be meant"),
        ({"devices": "0,gpu"}, r"devices='0,gpu' cannot be meant \('gpu'\)"),
        ({"devices": ""}, r"devices='' cannot be meant"),
        ({"actors": 2}, "actors=2 is for Ray; give engine ray as well"),
        ({"engine": "ray", "devices": "0,1"}, "devices='0,1' cannot be meant with engine ray"),
        ({"engine": "ray", "shard": "0/2"}, "shard='0/2' cannot be meant with engine ray"),
        ({"engine": "spark"}, "engine"),
    ],
)
def test_what_cannot_be_meant(how: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        EngineSpec(**how)


def test_devices_as_torch_names_them() -> None:
    assert EngineSpec(devices="0, 3,cuda:1").device_names() == ["cuda:0", "cuda:3", "cuda:1"]
    assert EngineSpec(devices="cpu,cpu").device_names() == ["cpu", "cpu"]
    assert EngineSpec().device_names() == []
    with pytest.raises(UsageError, match="calibrate measures in one process, so devices='cpu' means nothing"):
        EngineSpec(devices="cpu").check_alone("calibrate")
