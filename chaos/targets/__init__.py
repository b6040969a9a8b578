"""Systems under test that squall brings along."""
