"""The command `carpool`: one file a command, loaded only when it runs."""
