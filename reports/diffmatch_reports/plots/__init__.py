"""Plots as data: what they consist of (`spec`) and show (`class_counts`, `calibration`, `confusion`, `training`).

A run's page draws them as SVG (`svg`, `run_page`), the paper's figures by matplotlib (`diffmatch_reports.figures`).
Nothing here imports matplotlib: it needs half a second for the plots of one run, `svg` a few milliseconds.
"""
