"""A release for programs that embed it: short samples in Python, JavaScript and C++, and a zip file with all of it."""
