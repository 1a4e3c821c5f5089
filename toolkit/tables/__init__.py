"""Tables: systems and seeds named in one YAML file, run where they are missing, and one page of what they reach."""
