"""How work is run and recorded: folders, events, the fold over them, and the processes behind."""
