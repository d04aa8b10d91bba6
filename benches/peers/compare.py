"""Times the same work here and in PyTorch, ONNX Runtime and OpenVINO, in alternation, after checking that both sides compute the
same numbers. README.md says how to set this up and what is printed."""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import agreement
import cases

HERE = pathlib.Path(__file__).parent
OURS = ["cargo", "run", "--quiet", "--release", "-p", "darts-benches", "--example", "peer", "--"]
TCMALLOC = "libtcmalloc_minimal.so.4"
LAYOUTS_AND_ALLOCATORS = ["", "+tcmalloc", "+channels-last", "+channels-last+tcmalloc"]
PYTORCH = [f"pytorch{options}" for options in LAYOUTS_AND_ALLOCATORS]
ORIGINAL = [f"pytorch-original{options}" for options in LAYOUTS_AND_ALLOCATORS]
# All that there are, and those that are run unless others are named.
PEERS = {
    "search": PYTORCH + ORIGINAL,
    "train": PYTORCH,
    "infer": ["pytorch", "pytorch+channels-last", "onnxruntime", "openvino"],
}
USUAL_PEERS = PEERS | {
    "search": [
        "pytorch+channels-last+tcmalloc",
        "pytorch-original+channels-last",
        "pytorch-original+channels-last+tcmalloc",
    ],
    "infer": ["pytorch+channels-last", "onnxruntime", "openvino"],
}
# The search is long: three samples of each of its peers take a quarter of an hour.
USUAL_SAMPLES = {"search": 3, "train": 7, "infer": 7}
# Work shorter than this many seconds is repeated until a sample is as long.
SAMPLE_SECONDS = 0.3
# Threads of the side that has just finished may spin for some milliseconds.
PAUSE_SECONDS = 0.05


class Side:
    """A process that does the work on command."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=HERE,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seconds = []

    def ask(self, command, argument):
        try:
            print(command, argument, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"{self.name} has ended with status {self.process.wait()}")
        return json.loads(answer)

    def time(self, repetitions):
        return self.ask("time", repetitions)["seconds"]

    def sample(self, repetitions):
        time.sleep(PAUSE_SECONDS)
        self.seconds += self.time(repetitions)

    def peak_rss_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        return None

    def summary(self):
        return {
            "seconds": statistics.median(self.seconds),
            "seconds_min": min(self.seconds),
            "samples": len(self.seconds),
            "peak_rss_bytes": self.peak_rss_bytes(),
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def peer_side(peer, case, case_file, folder):
    """The process of `peer`, an engine and its options joined by `+`."""
    engine, *options = peer.split("+")
    if engine in ("pytorch", "pytorch-original"):
        environment = {"LD_PRELOAD": TCMALLOC} if "tcmalloc" in options else {}
        flags = [f"--{option}" for option in options if option != "tcmalloc"]
        flags += ["--original"] if engine == "pytorch-original" else []
        return Side(peer, [sys.executable, HERE / "pytorch_side.py", case_file, *flags], environment)
    return Side(peer, [sys.executable, HERE / "runtime_side.py", engine, case_file, folder / "model.onnx"])


def compare(case, peer, quick, samples, folder):
    """Checks and times one case against one peer."""
    case_file = folder / "case.safetensors"
    with Side("darts", [*OURS, case_file]) as ours, peer_side(peer, case, case_file, folder) as theirs:
        sides = (ours, theirs)
        files = [folder / f"{name}.safetensors" for name in ("ours", "theirs")]
        for side, file in zip(sides, files):
            side.time(1)
            side.ask("results", file)
        differences = agreement.differences(case.work, quick, *files)
        # The second repetition is warm, and says how many make a sample.
        repetitions = [math.ceil(SAMPLE_SECONDS / side.time(1)[0]) for side in sides]
        for _ in range(samples):
            for side, count in zip(sides, repetitions):
                side.sample(count)
        ours, theirs = ours.summary(), theirs.summary()
    return {
        "case": case,
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs["seconds"] / ours["seconds"],
        "ratio_of_minima": theirs["seconds_min"] / ours["seconds_min"],
        "differences": differences,
    }


HEADINGS = ["peer", "ours", "theirs", "ratio", "minima", "of minima", "memory", "agree"]


def cells(row):
    def seconds(side, key="seconds"):
        value = row[side][key]
        return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"

    def gigabytes(side):
        return f"{row[side]['peak_rss_bytes'] / 1e9:.2f}"

    return [
        row["peer"],
        seconds("ours"),
        seconds("theirs"),
        f"{row['ratio']:.2f}",
        f"{seconds('ours', 'seconds_min')} / {seconds('theirs', 'seconds_min')}",
        f"{row['ratio_of_minima']:.2f}",
        f"{gigabytes('ours')} / {gigabytes('theirs')} GB",
        f"{max(difference.whole for difference in row['differences']):.0e}",
    ]


def print_row(values):
    widths = (39, 9, 9, 6, 22, 9, 16, 6)
    print("| " + " | ".join(f"{value:<{width}}" for value, width in zip(values, widths)) + " |", flush=True)


def as_json(row):
    case = row["case"]
    return row | {
        "case": {field: getattr(case, field) for field in case.__dataclass_fields__},
        "differences": [vars(difference) for difference in row["differences"]],
    }


def can_preload(library):
    """Whether the dynamic linker finds `library`."""
    load = f"import ctypes; ctypes.CDLL({library!r})"
    return subprocess.run([sys.executable, "-c", load], check=False, stderr=subprocess.DEVNULL).returncode == 0


def choose_peers(options):
    peers = options.peer or USUAL_PEERS[options.work]
    if options.compile:
        # The original's copies of the network would be compiled at every step.
        peers = peers + [f"{peer}+compile" for peer in peers if peer in PYTORCH]
    if any("tcmalloc" in peer for peer in peers) and not can_preload(TCMALLOC):
        print(f"without tcmalloc: no {TCMALLOC} (Debian: apt install libtcmalloc-minimal4)", file=sys.stderr)
        peers = [peer for peer in peers if "tcmalloc" not in peer]
    return peers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=PEERS)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and two samples: does it run, do the sides agree?"
    )
    parser.add_argument("--threads", type=int, help="threads of both sides (2; for infer 1)")
    parser.add_argument("--batch", type=int, help="images in a batch, in place of the case's")
    parser.add_argument("--samples", type=int, help="samples of each side (7; for search 3)")
    known = sorted({peer for peers in PEERS.values() for peer in peers})
    parser.add_argument("--peer", action="append", choices=known, help="only this; repeatable")
    parser.add_argument("--compile", action="store_true", help="PyTorch by torch.compile too, which can take very long")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write everything to FILE as well")
    options = parser.parse_args()
    for peer in options.peer or []:
        if peer not in PEERS[options.work]:
            parser.error(f"{peer} is not for {options.work}")
    return options


def main():
    options = arguments()
    samples = options.samples or (2 if options.quick else USUAL_SAMPLES[options.work])
    peers = choose_peers(options)
    subprocess.run(["cargo", "build", *OURS[2:-1]], cwd=HERE, check=True)
    rows = []
    for case in cases.cases(options.work, options.quick, options.threads, options.batch):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            network = cases.write(case, folder / "case.safetensors")
            if case.work == "infer":
                cases.write_onnx(case, network, folder / "model.onnx")
            print(f"\n{case}\n", flush=True)
            print_row(HEADINGS)
            print_row(["---"] * len(HEADINGS))
            for peer in peers:
                rows.append(compare(case, peer, options.quick, samples, folder))
                print_row(cells(rows[-1]))
    if options.json:
        packages = (HERE / "requirements.txt").read_text().split()
        versions = {package: importlib.metadata.version(package) for package in packages}
        report = {"versions": versions, "rows": [as_json(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    wrong = [(row, difference) for row in rows for difference in row["differences"] if not difference.acceptable]
    for row, difference in wrong:
        print(f"{row['case']}, {row['peer']}: the sides disagree: {difference}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
