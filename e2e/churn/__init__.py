"""Many connections while everything else fails and changes, and a checker that judges what happened."""
