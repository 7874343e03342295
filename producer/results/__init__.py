"""What users take out of the database: files for notebooks and other tools."""
