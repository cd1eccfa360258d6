"""A registered release behind an Azure ML managed online endpoint: create, share out the traffic, delete."""
