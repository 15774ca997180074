"""Why a request goes where it goes; what a change would do to requests."""
