"""The application: everything behind the commands, and nothing that a user of the library needs."""
