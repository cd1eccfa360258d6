"""What maintainers run: what made the data sets and the embedded base, the locks, the plots' page, the installation."""
