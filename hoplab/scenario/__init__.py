"""Scenario scripts: loads them, gives them a lab to act on, turns what was seen into checks and a report.

`runner` makes one run from beginning to end and `acting` its later half; `lab` is what a script is given, `ends` and
`sent` what it sends with and gets back.  Every flow is also held against the model's prediction (`foretelling`), and
asked for the reason when it failed (`inquiry`).  docs/scenarios.md shows how to write one.
"""
