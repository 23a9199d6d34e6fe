"""Where frames come from: sources, their connections, and the policies that keep them alive."""
