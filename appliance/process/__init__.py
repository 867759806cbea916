"""What a process of the appliance does to itself, whatever it is for: it keeps its keys in, and stays small."""
