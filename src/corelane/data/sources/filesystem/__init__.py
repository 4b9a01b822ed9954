"""The file-system source: one reader per format behind `source.FileSystemSource`."""
