"""Real servers for tests: each is started on a free loopback port by its fixture, and stopped and removed after it."""
