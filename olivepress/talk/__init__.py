"""What the pages to chat on of `olivepress serve` and `olivepress web` share: static files, no code."""
