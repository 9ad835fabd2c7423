"""Every named hostile file: the documented error or a result, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import assert_one_line
from conftest import ROOT

from hostile.cases import CASES, GROUPS
from hostile.limits import limited

#: Seconds of CPU for files of up to a megabyte, and for each megabyte more. Most need 0.3 s; naive
#: code needs minutes or runs out of memory.
SECONDS, MORE = 2.0, 1.0
PAGE = ROOT / "docs" / "hostile-files.md"


@pytest.mark.parametrize("name", sorted(CASES))
def test_hostile_file(name: str, tmp_path: Path) -> None:
    """One line of error with exit status 2, or a result; 2 s and 512 MB whatever the file says."""
    case = CASES[name]
    files = case.build()
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    megabytes = sum(map(len, files.values())) / 1e6
    found = limited(*case.command, folder=tmp_path)
    if case.said is None:
        assert found.status == 0, found
    else:
        assert (found.status, found.out) == (2, ""), found
        assert_one_line(found.err, case.said)
        assert sorted(item.name for item in tmp_path.iterdir()) == sorted(files)
    assert found.seconds < SECONDS + MORE * max(megabytes - 1, 0)


def page() -> str:
    """The table of all of them, for people."""
    lines = [
        "# Hostile and damaged files",
        "",
        "Each way a file can be wrong has one error, which is one line on stderr; the exit status",
        "is 2 and nothing is written. `tests/hostile/` builds every file below and runs the",
        "command in a process that may use 512 MB beside what Python needs and 2 s of CPU, a",
        "second more for each megabyte above the first. (This page is made from those tests:",
        "`pytest tests/hostile --update-golden`.)",
    ]
    for title, group in GROUPS:
        lines += [
            "",
            f"## {title}",
            "",
            "| file | error says | what to do |",
            "| --- | --- | --- |",
        ]
        for case in group.values():
            said = f"{case.said}" if case.said else "(no error)"
            lines.append(f"| {case.what} | {said} | {case.do or '-'} |")
    return "\n".join(lines) + "\n"


def test_the_page_says_so(request: pytest.FixtureRequest) -> None:
    """docs/hostile-files.md lists every case."""
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
