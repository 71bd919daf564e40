"""The public calls: arguments and environment to explicit parameters."""
