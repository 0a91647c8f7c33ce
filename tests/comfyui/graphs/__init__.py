"""Random workflows, played with and without MemSweep's nodes. `test_graphs.py` has the tests."""
