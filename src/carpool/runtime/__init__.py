"""The live shells around the batch former: threads, processes, clocks, and the public `Batcher`."""
