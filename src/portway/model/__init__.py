"""What the proxies must do, in no engine's words; also the typed handles by which stages read one another."""
