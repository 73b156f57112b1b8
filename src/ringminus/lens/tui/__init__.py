"""The lens in a terminal: `ringminus lens tui`. It needs Textual, and nothing else imports it."""
