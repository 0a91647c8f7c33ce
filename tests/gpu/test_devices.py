"""Readings and caches of a real device."""

import json

import pytest

MIB = 2**20


def test_reading_an_untouched_gpu_makes_no_context(in_fresh_process):
    printed = in_fresh_process("""
        import json, memsweep, torch
        def used():
            return {d["id"]: (d["driver"]["used"], d["driver"]["process"]) for d in memsweep.reading().to_dict()["devices"]}
        first = used()
        for level in ("trim", "collect"):
            memsweep.sweep(level=level)
        second = used()
        has = getattr(torch._C, "_cuda_hasPrimaryContext")
        contexts = [i for i in range(torch.cuda.device_count()) if has(i)]
        print(json.dumps([torch.cuda.is_initialized(), contexts, first, second]))
    """)
    initialised, contexts, first, second = json.loads(printed)
    assert not initialised
    assert contexts == []
    assert first, "the driver names no device"
    for device, (used, process) in second.items():
        assert not process, "this process takes device memory"
        if used is not None:
            # Other programs may move the total; a context would add hundreds of MiB.
            assert used - first[device][0] < 100 * MIB


def test_device_cache_goes_back_to_the_driver(in_fresh_process):
    printed = in_fresh_process("""
        import json, memsweep, torch
        block = torch.empty(512 * 2**20, dtype=torch.uint8, device="cuda:0")
        del block
        torch.cuda.synchronize()
        before = torch.cuda.mem_get_info(0)[0]
        report = memsweep.sweep(level="trim").to_dict()
        after = torch.cuda.mem_get_info(0)[0]
        device = next(d for d in report["freed"]["devices"] if d["id"] == "cuda:0")
        print(json.dumps([after - before, device]))
    """)
    really, device = json.loads(printed)
    assert really >= 512 * MIB
    assert device["torch"]["reserved"] >= 512 * MIB
    assert abs(device["driver"]["used"] - really) < 64 * MIB, "the report and the driver disagree"


def test_page_locked_cache_goes_back_to_the_system(in_fresh_process):
    printed = in_fresh_process("""
        import json, memsweep, torch
        torch.zeros(1, device="cuda:0")
        block = torch.empty(256 * 2**20, dtype=torch.uint8, pin_memory=True)
        del block
        torch.cuda.synchronize()
        report = memsweep.sweep(level="trim").to_dict()
        row = next(r for r in report["rows"] if r["action"]["kind"] == "empty_host_cache")
        print(json.dumps(row))
    """)
    row = json.loads(printed)
    if row["outcome"]["kind"] == "unsupported":
        torch = pytest.importorskip("torch")
        accelerator = getattr(torch, "accelerator", None)
        assert not hasattr(torch._C, "_host_emptyCache")
        assert not hasattr(accelerator, "empty_host_cache")
        return
    assert row["outcome"]["kind"] == "done"
    assert row["measured"]["process_resident"] >= 200 * MIB


def test_goal_on_a_device_stops_the_sweep(in_fresh_process):
    printed = in_fresh_process("""
        import json, memsweep, torch
        block = torch.empty(512 * 2**20, dtype=torch.uint8, device="cuda:0")
        del block
        goal = {"device_free": {"device": "cuda:0", "bytes": torch.cuda.mem_get_info(0)[0] + 2**28}}
        report = memsweep.sweep(level="collect", goal=goal).to_dict()
        kinds = [r["action"]["kind"] for r in report["rows"] if r["outcome"]["kind"] == "done"]
        print(json.dumps([report["goal_met"], kinds]))
    """)
    met, kinds = json.loads(printed)
    assert met
    assert "collect" not in kinds, "the cheap step had already met the goal"
