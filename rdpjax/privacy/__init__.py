"""Privacy accounting: events, their ledger, accountants and the budget. Imports no model."""
