"""Train the text-guided teacher.

ray job submit -- python jobs/train_teacher.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["teacher"])
