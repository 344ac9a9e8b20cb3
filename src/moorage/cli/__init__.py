"""The command line. Each command is a module, which is imported when it is called."""
