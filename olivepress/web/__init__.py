"""A folder of static files in which a browser runs an exported model, with its adapters and without a network."""
