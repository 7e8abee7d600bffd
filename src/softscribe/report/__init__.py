"""report.html: a run's folder as one page, without server and network, out of nothing but the files in that folder."""

from softscribe.report.curve_file import curve_points, read_curves
from softscribe.report.environment import write_environment
from softscribe.report.run_report import write_run_report
from softscribe.report.seeds_report import write_seeds_report

__all__ = ["curve_points", "read_curves", "write_environment", "write_run_report", "write_seeds_report"]
