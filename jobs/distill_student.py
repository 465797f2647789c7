"""Distil the text-free student from the teacher.

ray job submit -- python jobs/distill_student.py --data URI --store URI    (all options: --help)

Stages before it run where the store has no result of them. Without Ray, in several processes, once
those stages are done: torchrun --nproc-per-node N jobs/distill_student.py --data URI --store URI
"""

from jobs.common import run_job, through

if __name__ == "__main__":
    run_job(through("student"))
