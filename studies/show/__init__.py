"""What is shown of it: curves, tables, figures and pages."""
