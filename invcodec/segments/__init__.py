"""Encoding in segments: a plan, one piece per segment, made anywhere and in any order, and one file of all pieces."""
