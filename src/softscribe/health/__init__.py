"""Is the training going well? What an alignment shows of its own failure, without any label; and which pairs are doubtful."""

from softscribe.health.activation_health import ActivationHealth, activation_health
from softscribe.health.alignment_health import AlignmentHealth, alignment_health
from softscribe.health.audit import Verdict, audit
from softscribe.health.audit_report import audit_table, write_audit
from softscribe.health.diagonalization import Diagonalization, diagonalization
from softscribe.health.monitor import BEYOND_GOING_BACK, LIMITS, Alarm, HealthMonitor, Limit, health_numbers
from softscribe.health.time_shift import TimeShift, estimate_time_shift, onset_strength, rises

__all__ = [
    "BEYOND_GOING_BACK",
    "LIMITS",
    "ActivationHealth",
    "Alarm",
    "AlignmentHealth",
    "Diagonalization",
    "HealthMonitor",
    "Limit",
    "TimeShift",
    "Verdict",
    "activation_health",
    "alignment_health",
    "audit",
    "audit_table",
    "diagonalization",
    "estimate_time_shift",
    "health_numbers",
    "onset_strength",
    "rises",
    "write_audit",
]
