"""What each invariant asks, in a sentence for people who read a report."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "no_loss": "Each acknowledged event is handled by everyone who is owed it, or ends where one can see it.",
    "no_phantom": "Nothing is delivered that was never published, or before it was.",
    "no_ghost": "Nothing is delivered whose publish was refused.",
    "no_stray": "Nothing is delivered to a subscriber whose pattern or filters do not match it.",
    "intact": "Events arrive as they were published: payload, type, priority and key.",
    "atomic": "Of events that are published as one batch all are stored, or none.",
    "duplicates": "Nothing is delivered again without a reason, such as a failure, a timeout or a restart.",
    "order": "Events of one key and priority are first delivered in the order in which they were published.",
    "overlap": "No two events of one key are handled at the same time.",
    "unique_seq": "No two events have the same sequence number, and no event has two.",
    "seq_order": "Who publishes after another was acknowledged gets a greater sequence number.",
    "one_terminal": "An event ends once for each subscriber.",
    "max_attempts": "No event is tried more often than its subscriber allows.",
    "conservation": "The target's own sums agree with what was seen: whatever is owed has ended, or is pending.",
    "starvation": "No priority waits longer than its share of the deliveries allows.",
    "recovery": "After everything is healed, what is pending moves again, and in time where a limit is set.",
    "latency": "From when an event was to be sent until it was handled; what is never handled counts as infinite.",
    "throughput": "So many events get through each second, on average.",
    "error_budget": "No more than this share fails.",
    "growth": "However long the load goes on, its target does not come to hold more and more.",
}
