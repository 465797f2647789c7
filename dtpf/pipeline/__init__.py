"""The stages in order: plan, run, skip what is done, leave receipts."""
