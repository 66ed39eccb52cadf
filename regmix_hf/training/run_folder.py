"""What the files in the folder of a run, or of an evaluation, are called. Imports nothing."""

#: Written last: a folder that has it holds finished work, or says why it failed.
RESULT = "result.json"
TRAJECTORY = "trajectory.parquet"
#: How far the task is, and who does it.
TOKENS = ".tokens"
#: Locked by whoever does the task.
LOCK = ".lock"
#: What was printed meanwhile; kept when the task failed.
LOG = "log.txt"

#: Beside the runs' folders, that of whoever publishes them: its lock, and what it has collected.
PUBLISHER = ".publisher"
