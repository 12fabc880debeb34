"""The shared look of tables, plots and pages, in terminals and in browsers."""
