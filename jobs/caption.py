"""Name each pair's degradations and encode the texts.

ray job submit -- python jobs/caption.py --data URI --store URI    (all options: --help)
"""

from jobs.common import run_job

if __name__ == "__main__":
    run_job(["caption"])
