"""For the tests of model repositories: ``assert_equivalent``."""

from __future__ import annotations

from typing import Any

from graphwq.verification import GraphOrPath, verify
from graphwq.verify import summary
from graphwq.verify.report import Report


def assert_equivalent(
    reference: GraphOrPath, candidate: GraphOrPath, *args: Any, **options: Any
) -> Report:
    """Fail a test unless the candidate passes ``graphwq.verify``.

        def test_model():
            assert_equivalent("float.pb", "int8.pb", inputs="images.npz", min_sqnr=30)

    Args:
        reference, candidate: graphs, or paths of frozen graphs.
        args, options: as for ``graphwq.verify``.

    Returns:
        the report.

    Raises:
        AssertionError: the verdict is FAILED; the message has one line per problem.
        InputError: as ``graphwq.verify`` does.
    """
    report = verify(reference, candidate, *args, **options)
    if not report.passed:
        lines = [summary.title(report), *summary.sentences(report), *summary.problem_lines(report)]
        raise AssertionError("\n".join(lines))
    return report
