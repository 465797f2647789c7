"""Publish the winner and serve it.

ray job submit -- python jobs/deploy.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["deploy"])
