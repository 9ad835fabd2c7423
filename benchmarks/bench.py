"""Size, latency and speed of graphwq against their targets and against TensorFlow's own tool.

    python benchmarks/bench.py [peers|startup|latency|size|all] [--out RESULTS.md] [--json]

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional

import support
from support import Part

PARTS = ("peers", "startup", "latency", "size")

_DETAILS = "size_table.md"


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description="Measure graphwq against its targets.")
    parser.add_argument("part", nargs="?", default="all", choices=(*PARTS, "all"))
    parser.add_argument(
        "--out",
        metavar="RESULTS.md",
        type=Path,
        help="write the results here; parts that are not run keep what the file says of them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    details = arguments.out.with_name(_DETAILS) if arguments.out else None
    done: List[Part] = []
    for name in PARTS:
        if arguments.part not in (name, "all"):
            continue
        support.note(f"{name} (load average {support.load_average():.1f})")
        part = _run(name, details)
        done.append(part)
        if not arguments.json:
            part.show()
        if arguments.out:
            _write(arguments.out, part)
    if arguments.json:
        parts = [part.to_json() for part in done]
        json.dump({"machine": support.machine(), "parts": parts}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    missed = [target.name for part in done for target in part.targets if not target.holds]
    support.note(f"targets missed: {'; '.join(missed) or 'none'}")
    return 0


def _run(name: str, details: Optional[Path]) -> Part:
    """Run one part; imports come late, so that this process is small while it measures others."""
    if name == "latency":
        from latency import latency

        return latency()
    if name == "size":
        from size import size

        return size(details)
    from peers import peers
    from startup import startup

    runners: Dict[str, Callable[[], Part]] = {"peers": peers, "startup": startup}
    return runners[name]()


def _write(path: Path, part: Part) -> None:
    """Put the section of one part in its place in a file of results."""
    sections: Dict[str, str] = {}
    if path.exists():
        for text in re.split(r"(?m)^(?=## )", path.read_text(encoding="utf-8"))[1:]:
            sections[text[3 : text.index("\n")]] = text.rstrip() + "\n"
    sections[part.name] = part.markdown()
    about = "\n".join(f"* {key}: {value}" for key, value in support.machine().items())
    head = (
        "# Results\n\nWritten by `python benchmarks/bench.py --out`; benchmarks/README.md says how "
        f"to read it.\n\n{about}\n"
    )
    ordered = [sections[name] for name in PARTS if name in sections]
    path.write_text("\n".join([head, *ordered]), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
