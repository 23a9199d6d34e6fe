"""What is seen: faces in pictures, whether they can be judged, and which face is which over time."""
