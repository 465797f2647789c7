"""Distil the text-free student from the teacher.

ray job submit -- python jobs/distill_student.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["student"])
