"""What a run says of itself: on the screen, as a value, and on disk."""

from __future__ import annotations

from etude.report.report import Report
from etude.report.study import Plan, Tuning

__all__ = ["Plan", "Report", "Tuning"]
