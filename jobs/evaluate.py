"""Score teacher, student and baselines; write the report.

ray job submit -- python jobs/evaluate.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["evaluate"])
