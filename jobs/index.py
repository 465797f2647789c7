"""Index image pairs (stage 0 of the pipeline).

ray job submit -- python jobs/index.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["data"])
