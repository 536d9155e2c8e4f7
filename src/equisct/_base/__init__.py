"""Words and verbs that every file uses: types, pytrees, checks, random arrays, files. Nothing here knows the method."""
