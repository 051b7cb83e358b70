"""Laws that an accountant must keep, and accountants that are put to them."""
