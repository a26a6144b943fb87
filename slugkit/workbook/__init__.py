"""What the notebooks stand on: settings, the command line, runs, teaching, figures."""
