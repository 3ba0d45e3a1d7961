"""The rules once more, by brute force: one class for each algorithm, from the words of the guarantees, not the code."""

from properties.oracles.concurrency import ConcurrencyOracle
from properties.oracles.edged import EdgedOracle
from properties.oracles.sliding_window import SlidingWindowOracle
from properties.oracles.token_bucket import TokenBucketOracle
from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, TokenBucket

ORACLES = {
    SlidingWindow.algorithm: SlidingWindowOracle,
    TokenBucket.algorithm: TokenBucketOracle,
    FixedWindow.algorithm: EdgedOracle,
    CalendarWindow.algorithm: EdgedOracle,
    Concurrency.algorithm: ConcurrencyOracle,
}
