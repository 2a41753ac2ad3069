"""A server with TLS and node keys, three nodes and a late one, on this machine; by one command.

``python examples/edge/run.py [FOLDER]``. Every node walks away with an adapter of its own, which
the script then asks what it sees. Everything stays in the folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trial import Trial

SERVED = ("generator=ridge", "family.experts=24", "privacy=krr", "privacy.epsilon=8")
"""What the server offers: adapters of a small zoo, for places in a public list of descriptions."""

NODES = {
    "hall": "My camera is mounted on its head, so the picture is turned by 180 degrees.",
    "yard": "The picture of my camera is mirrored, and red and blue are exchanged.",
    "gate": "My camera hangs on its side, turned a quarter to the left.",
}
LATE = {"roof": "Everything is upside down and the colours are inverted."}

CAPTIONS = ("a small red circle at the top left", "a large blue square at the bottom right")


def main(folder: Path) -> None:
    """Run the trial in a new folder."""
    everybody = NODES | LATE
    with Trial(folder, list(everybody)) as trial:
        print("zoo: training 24 experts")
        zoo = folder / "zoo"
        script = Path(__file__).with_name("small_zoo.py")
        subprocess.run([sys.executable, str(script), str(zoo), *SERVED[:2]], check=True)
        trial.start_superlink()
        for name in everybody:
            trial.register(name)
        trial.serve(*SERVED, f"zoo.path={zoo}")
        for name in NODES:
            join(trial, name, everybody[name])
        for name in NODES:
            wait(trial, name)
        for name in LATE:
            join(trial, name, everybody[name])
            wait(trial, name)
        for name in everybody:
            print(trial.command("sglora-fed", "client", "status", str(trial.node(name))))
        trial.stop("service")
        print((trial.output / "counters.json").read_text())


def join(trial: Trial, name: str, description: str) -> None:
    """Set a node up and connect it."""
    captions = [word for text in CAPTIONS for word in ("--caption", text)]
    trial.connect(name, trial.make_node(name, description, *captions))
    print(f"{name}: connected")


def wait(trial: Trial, name: str) -> None:
    """Until a node has its adapter."""
    seconds = trial.wait(lambda: trial.adopted(name), 180, f"{name} has no adapter")
    print(f"{name}: has its adapter, {seconds:.0f} s later")


if __name__ == "__main__":
    stem = f"sglora-edge-{time.strftime('%H%M%S')}"
    main(Path(sys.argv[1] if sys.argv[1:] else Path(tempfile.gettempdir()) / stem).absolute())
