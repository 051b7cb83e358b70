"""Sealed records to a released model: plans, the session, stages in order; knows no folder."""
