"""What everything stands on: errors, whole outputs, the stage decorator, git."""
