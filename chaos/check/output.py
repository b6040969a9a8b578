"""A verdict as files: `verdict.json` for programs, `junit.xml` for what shows test results.

verdict.json, version 1: `version`, `exit_code`, and `verdict`: the fields of `verdict.Verdict` by name, its findings,
reasons and causes as objects. Times are monotonic ns, infinite figures the text "Infinity". A later version may add
fields; one that changes their meaning gets another number.
"""

from __future__ import annotations

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from squall.chaos.check.verdict import Finding, Verdict
from squall.chaos.visible import visible
from squall.chaos.whole_file import read_document, write_document, write_whole
from squall.core.errors import StoreFileError

VERSION = 1


@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class VerdictFile:
    """What stands in verdict.json."""

    version: int
    exit_code: int
    verdict: Verdict


_ADAPTER = TypeAdapter(VerdictFile)


def save_verdict(verdict: Verdict, path: Path) -> None:
    """Write verdict.json. Raises StoreFileError when it cannot be written."""
    whole = VerdictFile(VERSION, verdict.exit_code, verdict)
    write_document(path, _ADAPTER, whole)


def load_verdict(path: Path) -> Verdict:
    """Read verdict.json. Raises StoreFileError when it is missing, foreign, or of another version."""
    whole = read_document(path, _ADAPTER, "a verdict that squall wrote")
    if whole.version != VERSION:
        raise StoreFileError(f"{path}: its version is {whole.version}, this squall reads version {VERSION}")
    return whole.verdict


def save_junit(verdict: Verdict, scenario: str, path: Path) -> None:
    """Write junit.xml: a test case for each finding; invalid fails, unknown is an error, what is not judged is skipped.

    Raises StoreFileError when it cannot be written.
    """
    suite = TestSuite(scenario)
    for finding in verdict.findings:
        suite.add_testcase(_case(finding, verdict, scenario))
    for reason in verdict.reasons:
        case = TestCase(reason.code, classname=scenario)
        case.result = [Error(visible(reason.text))]
        suite.add_testcase(case)
    report = JUnitXml()
    report.add_testsuite(suite)
    write_whole(path, lambda temporary: report.write(str(temporary), pretty=True))


def _case(finding: Finding, verdict: Verdict, scenario: str) -> TestCase:
    case = TestCase(finding.title or finding.name, classname=scenario)
    if finding.state == "invalid":
        failure = Failure(visible(finding.summary))
        causes = [cause for cause in verdict.causes if cause.invariant == finding.name]
        failure.text = "\n".join(
            visible(line)
            for cause in causes
            for line in (f"{cause.count} x {cause.sentence}", *cause.steps, cause.advice)
            if line
        )
        case.result = [failure]
    elif finding.state == "unknown":
        case.result = [Error(visible(finding.why_unknown or finding.summary))]
    elif finding.state == "not judged":
        case.result = [Skipped(visible(finding.summary))]
    return case
