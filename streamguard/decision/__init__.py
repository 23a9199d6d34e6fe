"""From scores to flagged segments: pure, without input or output, driven by stream time."""
