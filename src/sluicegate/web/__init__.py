"""What HTTP needs of a decision: response fields and problem documents. Values only; no framework is imported here."""
