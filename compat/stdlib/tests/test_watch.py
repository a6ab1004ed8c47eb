"""A suite that hangs, dies and leaks gets an outcome for each test, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.stdlib import environment
from compat.stdlib.outcome import CRASH, FAILED, HANG, LEAK, PASSED, SKIPPED, Outcome
from compat.stdlib.suites import SELF_TEST, Suite, short
from compat.stdlib.watch import Watch


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("w")
    python = environment.create(folder / "python")
    watch = Watch(Suite(SELF_TEST, "fork"), python, Path(folder) / "1", deadline=5, patterns=[], stand_in="stdlib")
    watch.run()
    return {short(outcome.test): outcome for outcome in watch.outcomes}


@pytest.mark.parametrize(
    ("test", "status", "kind", "evidence"),
    [
        ("Cases.test_a_passes", PASSED, "", ""),
        ("Cases.test_b_hangs", FAILED, HANG, "in test_b_hangs"),
        ("Cases.test_c_dies", FAILED, CRASH, "last words"),
        ("Cases.test_d_fails", FAILED, "", "1 != 2"),
        ("Cases.test_e_fails_in_a_subtest", FAILED, "", "number=1"),
        ("Cases.test_f_is_skipped", SKIPPED, "", "of its own"),
        ("Cases.test_g_leaves_a_process", PASSED, "", ""),
        ("Cases.test_h_leaves_a_file", PASSED, "", ""),
        ("Cases.test_i_alters_the_environment", FAILED, LEAK, "left something behind"),
        ("Cases.test_j_passes", PASSED, "", ""),
        ("SetUpFails.test_never_runs", FAILED, "", "in setUpClass"),
    ],
)
def test_outcome(outcomes: dict[str, Outcome], test: str, status: str, kind: str, evidence: str) -> None:
    outcome = outcomes[test]
    assert (outcome.status, outcome.kind) == (status, kind)
    assert evidence in outcome.detail


def test_leftovers_fail_the_suite(outcomes: dict[str, Outcome]) -> None:
    (end,) = (outcome for test, outcome in outcomes.items() if "end of suite" in test)
    assert (end.status, end.kind) == (FAILED, LEAK)
    assert "sleep 1000" in end.detail
    assert "left-" in end.detail
