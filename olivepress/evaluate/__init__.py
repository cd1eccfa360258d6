"""What each step of the pipeline loses and gains, measured on the tokens that the assistant writes."""
