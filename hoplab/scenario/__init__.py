"""Scenario scripts: loads them, gives them a lab to act on, turns what was seen into checks and a report."""
