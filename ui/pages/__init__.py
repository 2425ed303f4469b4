"""One screen each; they share `ui.state` and do not know one another."""
