"""How often answers are right: truths, measures, intervals, table and page."""
