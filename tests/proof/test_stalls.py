"""Stalls: which answers prove nothing against a limiter, and that no fault escapes by being slow."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.proof.cases.evidence import answers_exact, limit_not_exceeded, unless_paused, unless_raised
from sluicegate.proof.history import History, Record
from sluicegate.proof.judge import never_over, never_under
from sluicegate.proof.replies import CallError
from sluicegate.proof.stalls import Times, excused, quick, times
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult

FAILED, UNDECIDED, PASSED = CaseVerdict.FAILED, CaseVerdict.UNDECIDED, CaseVerdict.PASSED
QUICK, TIMED_OUT = 0.001, 0.3


def calls(*answers: tuple[float, bool | None, float], cost: int = 1) -> list[Record]:
    """Return the records of calls, each given by its start, its answer and the seconds that it took."""
    return [Record(start, start + took, "a", cost, allowed) for start, allowed, took in answers]


def history(records: list[Record], limit: int = 5, *, remote: bool = False) -> History:
    return History(limit, 60.0, records, remote=remote)


ALLOWED = [(n / 100, True, QUICK) for n in range(3)]


def test_a_denial_without_need_fails():
    assert never_under(history(calls(*ALLOWED, (1.0, False, QUICK)))).verdict is FAILED


def test_a_denial_after_a_time_out_is_undecided_and_the_finding_says_what_stalled():
    finding = never_under(history(calls(*ALLOWED, (1.0, False, TIMED_OUT))))
    assert finding.verdict is UNDECIDED
    assert finding.says.endswith(
        "But 1 answer took longer than 30 ms, the slowest 0.30 s: the target or its store was stalled"
    )


def test_a_denial_after_a_time_out_may_have_taken_its_unit_at_any_later_time():
    full = [(n / 100, True, QUICK) for n in range(4)]
    assert never_under(history(calls(*full, (1.0, False, TIMED_OUT), (30.0, False, QUICK)))).verdict is UNDECIDED
    assert never_under(history(calls(*full[:3], (1.0, False, TIMED_OUT), (30.0, False, QUICK)))).verdict is FAILED


def test_quick_denials_within_a_second_of_a_stall_are_undecided_as_a_circuit_breaker_may_be_open():
    stalled = (1.0, False, TIMED_OUT)
    assert never_under(history(calls(*ALLOWED, stalled, (2.2, False, QUICK)))).verdict is UNDECIDED
    assert never_under(history(calls(*ALLOWED, stalled, (2.4, False, QUICK)))).verdict is FAILED
    assert never_under(history(calls(*ALLOWED, (0.9, False, QUICK), stalled))).verdict is FAILED


def test_a_limiter_that_is_always_slow_is_not_excused_by_it():
    slow = [(float(n), True, 0.3) for n in range(10)]
    assert never_under(history(calls(*slow, (11.0, False, 0.3)), limit=20)).verdict is FAILED
    assert never_under(history(calls(*slow, (11.0, False, 1.0)), limit=20)).verdict is UNDECIDED


def test_too_many_allowed_fail_however_slow_they_were():
    records = calls(*((float(n), True, QUICK) for n in range(3)), *((n + 3.0, True, 2.0) for n in range(3)))
    assert never_over(history(records)).verdict is FAILED


def test_one_too_many_that_was_slow_to_be_allowed_proves_nothing_if_a_store_may_not_have_been_asked():
    records = calls(*((float(n), True, QUICK) for n in range(5)), (5.0, True, TIMED_OUT))
    assert never_over(history(records)).verdict is FAILED
    finding = never_over(history(records, remote=True))
    assert finding.verdict is UNDECIDED
    assert "6 units were allowed to 'a'" in finding.says
    assert finding.says.endswith(
        "the limit is 5. But 1 answer took longer than 30 ms, the slowest 0.30 s: the target or its store was stalled"
    )


def test_too_many_fail_on_a_store_if_enough_of_them_were_quick_or_all_are_slow_all_the_time():
    stalled = (6.0, True, TIMED_OUT)
    quick_ones = [(float(n), True, QUICK) for n in range(6)]
    assert never_over(history(calls(*quick_ones, stalled), remote=True)).verdict is FAILED
    always_slow = [(float(n), True, TIMED_OUT) for n in range(10)]
    assert never_over(history(calls(*always_slow), limit=9, remote=True)).verdict is FAILED


def test_quick_leaves_out_only_what_was_slow_to_be_allowed():
    kept = calls((0.0, True, QUICK), (1.0, True, 0.029), (2.0, False, TIMED_OUT), (3.0, None, TIMED_OUT))
    assert quick([*kept, *calls((4.0, True, 0.04), (5.0, True, TIMED_OUT))]) == kept


def test_too_many_allowed_fail_even_if_slow_calls_raised():
    raised = ScenarioResult([], [CallError("TimeoutError", "", "", 1)])
    records = calls(*((float(n), True, QUICK) for n in range(6)))
    assert limit_not_exceeded(history(records), ScenarioResult(records), raised).verdict is FAILED
    assert answers_exact(history(records), ScenarioResult(records), raised, denied=0, says="").verdict is FAILED


def test_a_call_that_raised_fails_unless_it_was_slow():
    allowed = calls(*ALLOWED)
    finding = Finding(PASSED, "all right")
    for took, verdict in ((QUICK, FAILED), (TIMED_OUT, UNDECIDED)):
        result = ScenarioResult([*allowed, *calls((1.0, None, took))], [CallError("TimeoutError", "", "", 1)])
        assert unless_raised(finding, result).verdict is verdict
    assert unless_raised(finding, ScenarioResult(allowed)) is finding


def test_quick_calls_that_raised_together_with_a_slow_one_are_undecided():
    errors = [CallError("TimeoutError", "", "", 2)]
    slow, late = (1.0, None, TIMED_OUT), (1.299, None, QUICK)
    for answers, verdict in (((slow, late), UNDECIDED), ((slow, (0.5, None, QUICK)), FAILED)):
        result = ScenarioResult(calls(*ALLOWED, *answers), errors)
        assert unless_raised(Finding(PASSED, ""), result).verdict is verdict


def test_calls_without_records_that_raised_are_undecided_if_any_was_slow():
    for took, verdict in ((QUICK, FAILED), (TIMED_OUT, UNDECIDED)):
        errors = [CallError("TimeoutError", "", "", 1)]
        result = ScenarioResult([], errors, discarded=Times([QUICK] * 20, [took]))
        assert unless_raised(Finding(PASSED, ""), result).verdict is verdict


def test_a_case_that_knows_each_answer_never_passes_with_a_denial_that_a_stall_explains():
    records = calls(*ALLOWED, (1.0, False, TIMED_OUT), *((n / 100 + 5, True, QUICK) for n in range(2)))
    result = ScenarioResult(records)
    assert answers_exact(history(records), result, denied=0, says="").verdict is UNDECIDED


def test_a_case_that_knows_each_answer_never_passes_with_one_too_many_that_a_stall_explains():
    records = calls(*((n / 100, True, QUICK) for n in range(5)), (1.0, True, TIMED_OUT), (2.0, False, QUICK))
    for remote, verdict in ((True, UNDECIDED), (False, FAILED)):
        finding = answers_exact(history(records, remote=remote), ScenarioResult(records), denied=1, says="")
        assert finding.verdict is verdict


def test_a_failure_while_the_machine_paused_is_undecided():
    failure = Finding(FAILED, "too slow")
    assert unless_paused(failure, ScenarioResult(paused=0.2), for_=0.5) is failure
    finding = unless_paused(failure, ScenarioResult(paused=0.2), ScenarioResult(paused=0.6), for_=0.5)
    assert finding.verdict is UNDECIDED
    assert finding.says == "too slow. But the machine did not run the target for 0.60 s"


def test_the_answers_that_were_allowed_show_what_is_slow():
    assert Times([], [9.0]).slow_from == 0.03
    assert Times([0.001] * 9, [9.0]).slow_from == 0.03
    assert Times([0.4] * 9, []).slow_from == 0.03  # a stall may have delayed all of them
    assert Times([0.001, 0.001, *[0.1] * 18], []).slow_from == 3 * 0.1
    assert not Times([0.1] * 10, [0.1]).stall


_RECORDS = st.lists(
    st.builds(
        lambda start, took, allowed: Record(start, start + took, "a", 1, allowed),
        st.floats(0, 20),
        st.sampled_from([0.0, 0.01, 0.04, 0.2, 3.0]),
        st.sampled_from([True, False, None]),
    ),
    max_size=20,
)


@given(_RECORDS)
def test_answers_are_excused_as_they_are_described(records: list[Record]):
    slow_from = times(records).slow_from
    slow = [record for record in records if not record.allowed and record.end - record.start > slow_from]
    for before, after in zip(records, excused(records), strict=True):
        near = any(each.start <= before.start <= each.end + 1 for each in slow)
        assert (after.end == math.inf) == (near and not before.allowed)
        assert after == before or after == before._replace(allowed=None, end=math.inf)
