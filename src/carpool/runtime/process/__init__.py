"""Workers that are processes of their own: a model runs there, and what it does to its process harms no other."""
