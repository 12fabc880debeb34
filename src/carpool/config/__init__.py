"""Files that Carpool reads and writes: their versions, their keys, and errors that say where and what to do."""
