"""The paper that StreamGuard follows, measured again: its table, what it hides, and the methods of its related work."""
