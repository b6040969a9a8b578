"""Break your event system on purpose, and know what it lost."""
