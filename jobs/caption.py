"""Name each pair's degradations and encode the texts.

ray job submit -- python jobs/caption.py --data URI --store URI    (all options: --help)

Stages before it run where the store has no result of them.
"""

from jobs.common import run_job, through

if __name__ == "__main__":
    run_job(through("caption"))
