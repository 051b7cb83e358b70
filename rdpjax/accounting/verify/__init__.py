"""Properties that an accountant must have, and accountants that are checked for them."""
