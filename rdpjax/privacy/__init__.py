"""What a run costs: the events, their ledger, the accountants, the budget. Knows no model."""
