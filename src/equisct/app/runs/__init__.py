"""A run and its folder: the loop that trains, what it records, how it may stop and go on, what it leaves for others."""
