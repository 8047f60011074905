"""The progress of a run: counts of running prompts, the line that shows them, where it is printed.

`meter.Meter` adds up the reports of a cell's prompts, `snapshot.Snapshot` makes a line and an
estimate of the time left from them, and `view.open_view` prints it on a terminal or into a log.
"""
