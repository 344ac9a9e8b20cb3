"""The lab's commands: one module for each, imported when it is called."""
