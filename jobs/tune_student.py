"""Search for a better student and choose the winner.

ray job submit -- python jobs/tune_student.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["tune"])
