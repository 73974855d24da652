"""Live page: shows the events of a run in a browser. The command line imports this package only if the page is enabled."""
