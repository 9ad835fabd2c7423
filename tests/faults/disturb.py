"""The disturbances: each is done to a scene some times and says how it ended."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from commandline import environment

from faults.scenes import MODE, OLD, Scene

_WAIT = 120
#: Exit status of a process that ended by itself, of one that cleaned up after a signal, of a death.
_ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}


class Row(NamedTuple):
    """How a disturbance ended.

    Attributes:
        what: the disturbance.
        command: that was disturbed.
        trials: how often.
        outcomes: how many outputs were old or new afterwards.
        during: trials that came while an output was being written (a temporary file was there).
        broken: what was wrong, one line each; nothing where all is well.
    """

    what: str
    command: str
    trials: int
    outcomes: Dict[str, int]
    during: int
    broken: List[str]


def stopped(
    scene: Scene, number: signal.Signals, trials: int, seed: int = 0, command: str = ""
) -> Row:
    """A signal at random instants, every other time while an output is being written."""
    random = Random(seed)
    outcomes: Counter = Counter()
    broken: List[str] = []
    during = 0
    for trial in range(trials):
        scene.reset()
        child = scene.start()
        if trial % 2:
            _wait_for_temporary(scene, child)
            time.sleep(random.uniform(0, 0.02))
        else:
            time.sleep(random.uniform(0, scene.seconds * 1.1))
        there = bool(scene.temporaries())
        child.send_signal(number)  # nothing where it has ended already
        _, err = child.communicate(timeout=_WAIT)
        during += there
        states = scene.states()
        outcomes.update(states)
        broken += [f"trial {trial}: {state}" for state in states if state not in ("old", "new")]
        broken += [f"trial {trial}: {said}" for said in _ended(child, number, err.decode(), states)]
        left = scene.temporaries()
        if left and number != signal.SIGKILL and child.returncode != -number:
            broken.append(f"trial {trial}: {left} left behind")
    broken += _afterwards(scene)
    return Row(f"{number.name} at random instants", command, trials, dict(outcomes), during, broken)


def _wait_for_temporary(scene: Scene, child: subprocess.Popen) -> None:  # type: ignore[type-arg]
    until = time.monotonic() + _WAIT
    while child.poll() is None and time.monotonic() < until and not scene.temporaries():
        time.sleep(0.0005)


def _ended(
    child: subprocess.Popen,  # type: ignore[type-arg]
    number: signal.Signals,
    err: str,
    states: List[str],
) -> List[str]:
    """What is wrong with the exit status and what was said.

    A signal before graphwq's code runs, or after it, ends the process as the system does it; Python
    itself may then print its own traceback, of its own start.
    """
    found = []
    status = child.returncode
    if status not in (0, 1, _ENDS[number], -number):
        early = status == 1 and set(states) == {"old"}
        found += [] if early else [f"exit status {status}: {err.strip()[-600:]}"]
    if "graphwq" in err and "Traceback" in err and "cli/main.py" in err and status != -number:
        found.append(f"a traceback: {err.strip()[-2000:]}")
    if set(states) == {"old"} and status == 0:
        found.append("exit status 0, and nothing was written")
    return found


def _afterwards(scene: Scene) -> List[str]:
    """One run to the end: all outputs new, and no temporary file left of those before."""
    child = scene.start()
    _, err = child.communicate(timeout=_WAIT)
    found = [f"the next run: {state}" for state in scene.states() if state != "new"]
    if child.returncode not in (0, 1):
        found.append(f"the next run: exit status {child.returncode}: {err.decode().strip()}")
    if scene.temporaries():
        found.append(f"after the next run: {scene.temporaries()} left")
    return found


def refused(
    scene: Scene,
    what: str,
    command: str,
    said: str,
    before: Optional[Callable[[], None]] = None,
) -> Row:
    """One run that must end with exit status 2 and one line, without traces.

    Of several outputs those may be new, and complete, that were written before the one that failed.
    """
    if "read-only" not in what:
        scene.reset()
    child = scene.start(before)
    _, err = child.communicate(timeout=_WAIT)
    text = err.decode()
    states = scene.states()
    broken = [state for state in states if state not in ("old", "new")]
    broken += [] if "old" in states else ["all outputs are new"]
    if child.returncode != 2 or text.count("\n") != 1 or said not in text:
        broken.append(f"exit status {child.returncode}: {text.strip()[-300:]}")
    if scene.temporaries():
        broken.append(f"{scene.temporaries()} left behind")
    return Row(what, command, 1, dict(Counter(states)), 0, broken)


def file_size_limit(nbytes: int) -> Callable[[], None]:
    """For ``refused``: no file may grow beyond ``nbytes``, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))

    return limit


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """A tmpfs of so many MB on ``folder``; False where it cannot be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "graphwq-faults", str(folder)]
    done = subprocess.run(mount, stderr=subprocess.DEVNULL)
    if done.returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remounted_read_only(folder: Path) -> None:
    """The disk of ``small_disk`` cannot be written any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def truncated(scene: Scene, name: str, trials: int, seed: int = 0, command: str = "") -> Row:
    """The input becomes shorter while it is read: exit status 2, or done before; never a death."""
    random = Random(seed)
    path = scene.folder / name
    content = path.read_bytes()
    outcomes: Counter = Counter()
    broken: List[str] = []
    for trial in range(trials):
        path.write_bytes(content)
        scene.reset()
        child = scene.start()
        time.sleep(random.uniform(0.1, scene.seconds))
        os.truncate(str(path), random.choice([0, 4096, len(content) // 2, len(content) - 1]))
        _, err = child.communicate(timeout=_WAIT)
        states = scene.states()
        outcomes.update(states)
        text = err.decode()
        fine = child.returncode == 0 and states == ["new"]
        fine = fine or (child.returncode == 2 and states == ["old"] and text.count("\n") == 1)
        if not fine:
            broken.append(f"trial {trial}: {states}, exit status {child.returncode}: {text[-200:]}")
        if scene.temporaries():
            broken.append(f"trial {trial}: {scene.temporaries()} left behind")
    path.write_bytes(content)
    return Row("input truncated while read", command, trials, dict(outcomes), 0, broken)


def two_at_once(scene: Scene, trials: int, force: bool, command: str = "") -> Row:
    """Two processes write the same output; without --force one of them must say that it exists."""
    outcomes: Counter = Counter()
    broken: List[str] = []
    arguments = tuple(item for item in scene.arguments if force or item != "--force")
    both = scene._replace(arguments=arguments)
    for trial in range(trials):
        both.reset()
        if not force:
            for name in both.outputs:
                (both.folder / name).unlink()
        children = [both.start() for _ in range(2)]
        said = [child.communicate(timeout=_WAIT)[1].decode() for child in children]
        status = sorted(child.returncode for child in children)
        for name in both.outputs:
            same = (both.folder / name).read_bytes() == both.new[name]
            outcomes["new" if same else "broken"] += 1
            if not same:
                broken.append(f"trial {trial}: {name} is broken")
        if status != ([0, 0] if force else [0, 2]) or (not force and "exists" not in "".join(said)):
            broken.append(f"trial {trial}: exit status {status}: {said}")
        if both.temporaries():
            broken.append(f"trial {trial}: {both.temporaries()} left behind")
    what = f"two processes at once{'' if force else ', without --force'}"
    return Row(what, command, trials, dict(outcomes), 0, broken)


def through_links(scene: Scene, elsewhere: Path, command: str = "") -> List[Row]:
    """The output is a symbolic link (to another file system too), or one of two hard links."""
    rows = []
    name = scene.outputs[0]
    for what, target in (
        ("output is a symbolic link", scene.folder / "real"),
        ("output is a link to another file system", elsewhere / "real"),
    ):
        target.write_bytes(OLD)
        target.chmod(MODE)
        scene.reset()
        (scene.folder / name).unlink()
        (scene.folder / name).symlink_to(target)
        scene.start().communicate(timeout=_WAIT)
        broken = [] if scene.states()[0] == "new" else [f"the file is {scene.states()[0]}"]
        broken += [] if (scene.folder / name).is_symlink() else ["the link became a file"]
        broken += [] if target.read_bytes() == scene.new[name] else ["the target is not written"]
        rows.append(Row(what, command, 1, {"new": 1}, 0, broken))
        (scene.folder / name).unlink()
    scene.reset()
    os.link(str(scene.folder / name), str(scene.folder / "second"))
    scene.start().communicate(timeout=_WAIT)
    broken = [] if scene.states()[0] == "new" else [f"the file is {scene.states()[0]}"]
    second = (scene.folder / "second").read_bytes()
    broken += [] if second == OLD else ["the other name does not keep the old file"]
    (scene.folder / "second").unlink()
    rows.append(Row("output has a second name (hard link)", command, 1, {"new": 1}, 0, broken))
    return rows


def on_a_terminal(scene: Scene, number: signal.Signals, trials: int, command: str = "") -> Row:
    """A signal while a progress bar is drawn: the terminal is given back with its cursor."""
    outcomes: Counter = Counter()
    broken: List[str] = []
    during = 0
    for trial in range(trials):
        scene.reset()
        child, said, drawn = _in_terminal(scene, number, delay=0.02 * trial)
        during += drawn
        states = scene.states()
        outcomes.update(states)
        broken += [f"trial {trial}: {state}" for state in states if state not in ("old", "new")]
        if child not in (0, _ENDS[number], -number):
            broken.append(f"trial {trial}: exit status {child}")
        if "Traceback" in said:
            broken.append(f"trial {trial}: a traceback: {said[-300:]}")
        if said.rfind("\x1b[?25l") > said.rfind("\x1b[?25h"):
            broken.append(f"trial {trial}: the cursor is hidden")
        if scene.temporaries():
            broken.append(f"trial {trial}: {scene.temporaries()} left behind")
    what = f"{number.name} during a progress bar"
    return Row(what, command, trials, dict(outcomes), during, broken)


def _in_terminal(scene: Scene, number: signal.Signals, delay: float) -> Tuple[int, str, bool]:
    """Run on a pseudo terminal, send the signal once the bar is drawn: status, output, whether."""
    parent, terminal = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "graphwq", *scene.arguments],
        cwd=str(scene.folder),
        env={**environment(), "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said, sent = b"", False
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # the terminal has no other end any more
            break
        if not piece:
            break
        said += piece
        if not sent and b"quantizing" in said:
            time.sleep(delay)
            child.send_signal(number)
            sent = True
    os.close(parent)
    return child.wait(timeout=_WAIT), said.decode("utf-8", "replace"), sent
