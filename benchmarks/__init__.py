"""What is measured rather than tested: one command each, see docs/performance.md, reliability.md and scaling.md."""
