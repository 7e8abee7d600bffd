"""Is the training going well? What an alignment shows of its own failure, without any label; and which pairs are doubtful."""

from softscribe.health.audit import Verdict, audit
from softscribe.health.audit_report import audit_table, write_audit

__all__ = ["Verdict", "audit", "audit_table", "write_audit"]
