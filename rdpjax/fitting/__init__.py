"""From sealed records to a released model: plans, session and stages, without a run folder."""
