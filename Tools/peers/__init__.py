"""What Tools/bench is made of: the contenders, what they are measured on, and the tables that come of it."""
