"""The command loop of a peer's process, the same as in `benches/examples/peer/main.rs`."""

import json
import sys
import time


def serve(work, write_results):
    """`work.run()` does the work once; `work.results()` gives what it computed, tensors by name."""
    for line in sys.stdin:
        command, argument = line.split()
        if command == "time":
            answer = {"seconds": [timed(work.run) for _ in range(int(argument))]}
        elif command == "results":
            write_results(work.results(), argument)
            answer = {}
        else:
            raise ValueError(f"not a command: {line!r}")
        print(json.dumps(answer), flush=True)


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
