"""Azure Machine Learning: workspaces, and the models in them."""
