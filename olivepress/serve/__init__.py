"""An exported model behind OpenAI's HTTP interface: many requests at a time, each with an adapter of its own."""
