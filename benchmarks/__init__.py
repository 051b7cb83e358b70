"""rdpjax against its peers, in one run: `python -m benchmarks.throughput`."""
