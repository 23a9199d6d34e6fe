"""Architecture search: spaces, nets, rules, studies."""
