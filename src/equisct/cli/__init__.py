"""The commands, a file each: `train`, `sample`, `evaluate`, `report`, `data`; and their work, imported when needed."""
