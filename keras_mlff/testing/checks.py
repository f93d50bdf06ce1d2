"""What a check is: a function of what is tested, with a name, that fails by an assertion."""

from __future__ import annotations

import dataclasses
import traceback
import unittest
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class NotApplicable(unittest.SkipTest):
    """Says that a promise is not made, so that there is nothing to check.

    pytest and unittest show such a test as skipped.
    """


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise and the function that holds somebody to it.

    Attributes:
        name: The claim, as the name of a function.
        function: Called with what is tested; raises `AssertionError` where the promise is broken
            and `NotApplicable` where it is not made.
        costly: Whether it makes models of its own, which JAX compiles for long. On JAX such checks
            are left out unless asked for.
    """

    name: str
    function: Callable[[Any], None]
    costly: bool = False


class Checks:
    """A list of checks that modules add to, in the order in which they are written."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)

    def __call__(self, costly: bool = False) -> Callable[[Callable[..., None]], Callable[..., Any]]:
        """Adds the function below to the list.

        Args:
            costly: See `Check`.
        """

        def add(function: Callable[..., None]) -> Callable[..., None]:
            self._checks.append(Check(function.__name__, function, costly))
            return function

        return add


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What a run of checks found.

    Attributes:
        passed: Names of the promises that hold.
        left_out: Reasons by name, of promises that are not made or were not checked here.
        failed: Tracebacks by name.
    """

    passed: tuple[str, ...]
    left_out: dict[str, str]
    failed: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"{len(self.passed)} checks passed, {len(self.left_out)} left out, "
            f"{len(self.failed)} failed"
        ]
        lines += [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        lines += [f"failed: {name}\n{text}" for name, text in self.failed.items()]
        return "\n".join(lines)


def run_checks(checks: Iterable[Check], tested: Any, thorough: bool) -> CheckReport:
    """Runs checks one after the other, and goes on after one that fails.

    Args:
        checks: What to run.
        tested: What each check is called with.
        thorough: Whether to run the costly ones.

    Returns:
        What was found.

    Raises:
        AssertionError: If a check failed; the message is the whole report.
    """
    passed, left_out, failed = [], {}, {}
    for check in checks:
        if check.costly and not thorough:
            left_out[check.name] = "costly on this backend; pass thorough=True"
            continue
        try:
            check.function(tested)
        except NotApplicable as reason:
            left_out[check.name] = str(reason)
        except Exception:
            failed[check.name] = traceback.format_exc()
        else:
            passed.append(check.name)
    report = CheckReport(tuple(passed), left_out, failed)
    if failed:
        raise AssertionError(str(report))
    return report


def add_tests(suite: type, checks: Iterable[Check]) -> None:
    """Gives a class a method `test_...` for each check, which pytest and unittest find.

    The class has `subject()`, a class method that gives what is tested, and `thorough`.
    """
    for check in checks:
        setattr(suite, f"test_{check.name}", _method(check))


def _method(check: Check) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        if check.costly and not self.thorough:
            raise NotApplicable("costly on this backend; set thorough = True")
        check.function(type(self).subject())

    test.__name__ = f"test_{check.name}"
    test.__doc__ = check.function.__doc__
    return test
