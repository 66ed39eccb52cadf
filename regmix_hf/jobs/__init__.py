"""Many training runs at once: workers, claims, launchers, and the tables their results make."""
