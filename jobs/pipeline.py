"""The main job: image pairs in, a served student out; what the store already has is skipped.

ray job submit -- python jobs/pipeline.py [--recipe NAME] [--data URI] [--store URI]
    [--set a.b=c] [--force STAGE] [--strict] [--dry-run] [--local]
"""

from dtpf.pipeline.plan import STAGES
from jobs.common import run_job

if __name__ == "__main__":
    run_job(STAGES)
